"""Events of one key stay in order, whatever becomes of them; those of other keys go on."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import BatchSettings, Event, Kind
from relay.deliver.batch.ordering import Order

LIMITS = BatchSettings(events=5)
KIND = Kind("braze", "users.canvas.Entry")


def event(offset: int, key: str | None) -> Event:
    return Event(b"{}" if key is None else key.encode(), KIND, offset, 0.0)


def key_of(event: Event) -> str | None:
    return None if event.body == b"{}" else event.body.decode()


def keys_of(events: Iterable[Event]) -> list[str | None]:
    return [key_of(event) for event in events]


def offsets(batches: Sequence[Sequence[Event]]) -> list[list[int]]:
    return [*map(_of, batches)]


def _of(events: Sequence[Event]) -> list[int]:
    return [event.offset for event in events]


def places(events: Sequence[Event]) -> list[tuple[int, int]]:
    return [(event.offset, event.part) for event in events]


@pytest.mark.promise(10)
def test_an_event_waits_for_the_earlier_ones_of_its_key_and_no_other() -> None:
    order = Order(keys_of, LIMITS, park=False)
    first = order.admit([event(0, "a"), event(1, "b"), event(2, "a"), event(3, None)])
    assert offsets(first.going) == [[0, 1, 2, 3]]
    assert offsets(order.admit([event(4, "a"), event(5, "c"), event(6, "a")]).going) == [[5]]
    assert offsets(order.settle(places(first.going[0][:1]), parked=False).going) == []
    assert offsets(order.settle(places(first.going[0][1:]), parked=True).going) == [[4, 6]]


def test_what_has_no_room_in_the_batch_waits_for_those_of_its_key_in_it() -> None:
    order = Order(keys_of, LIMITS, park=False)
    first = order.admit([event(offset, "ab"[offset == 6]) for offset in range(8)])
    assert offsets(first.going) == [[0, 1, 2, 3, 4], [6]]
    assert offsets(order.settle(places(first.going[0]), parked=False).going) == [[5, 7]]


def test_with_park_events_behind_a_parked_event_are_parked_until_it_leaves() -> None:
    order = Order(keys_of, LIMITS, park=True)
    first = order.admit([event(0, "a"), event(1, "a"), event(2, "b")])
    assert offsets(first.going) == [[0, 2]]
    freed = order.settle(places(first.going[0][:1]), parked=True)
    assert (offsets(freed.going), offsets([freed.behind])) == ([], [[1]])
    order.settle([(1, 0)], parked=True)
    order.begin_reading_parked()
    order.set_parked_keys([])
    assert offsets(order.admit([event(3, "a")]).going) == [[3]]


def test_with_park_none_passes_those_on_their_way_to_be_parked() -> None:
    order = Order(keys_of, LIMITS, park=True)
    order.begin_parking([event(0, "a")])
    assert order.admit([event(1, "a")]) == ([], [])
    behind = order.settle([(0, 0)], parked=True).behind
    assert offsets([behind]) == [[1]]
    order.begin_reading_parked()
    order.set_parked_keys([])
    assert order.admit([event(2, "a")]) == ([], []), "though the first is gone, the second is not parked yet"
    assert offsets([order.settle([(1, 0)], parked=True).behind]) == [[2]]
    assert offsets(order.admit([event(3, "b")]).going) == [[3]]


@pytest.mark.promise(10)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=40),
    park=st.booleans(),
    data=st.data(),
)
def test_whatever_ends_first_each_key_ends_in_order(keys: list[str | None], park: bool, data: st.DataObject) -> None:
    order = Order(keys_of, LIMITS, park=park)
    fresh = [event(offset, key) for offset, key in enumerate(keys)]
    going: list[list[Event]] = []
    ended: dict[str, list[int]] = defaultdict(list)
    behind: list[Event] = []
    aside: set[str] = set()

    def sort(batches: list[list[Event]], parked_behind: list[Event]) -> None:
        assert all(0 < len(batch) <= LIMITS.events for batch in batches)
        assert all(_of(events) == sorted(_of(events)) for events in (*batches, parked_behind))
        going.extend(batches)
        behind.extend(parked_behind)

    while fresh or going:
        if fresh and (not going or data.draw(st.booleans())):
            cut = data.draw(st.integers(1, len(fresh)))
            sort(*order.admit(fresh[:cut]))
            del fresh[:cut]
            continue
        batch = going.pop(data.draw(st.integers(0, len(going) - 1)))
        parked = data.draw(st.booleans())
        for one in batch:
            if key := key_of(one):
                assert not (park and key in aside)
                ended[key].append(one.offset)
                if parked and park:
                    aside.add(key)
        sort(*order.settle(places(batch), parked=parked))
    assert all(found == sorted(found) for found in ended.values())
    assert sum(map(len, ended.values())) + len(behind) == len([key for key in keys if key])
    assert {key_of(one) for one in behind} <= aside


def test_events_of_one_batch_wait_for_all_their_keys_in_turn() -> None:
    order = Order(keys_of, LIMITS, park=False)
    first = order.admit_together([event(0, "a"), event(3, "b"), event(7, None)])
    assert offsets(first.going) == [[0, 3, 7]]
    assert order.admit_together([event(1, "c"), event(5, "a")]) == ([], [])
    assert order.admit_together([event(6, "c"), event(8, "d")]) == ([], [])
    assert offsets(order.admit([event(9, "a"), event(10, "d"), event(11, "e")]).going) == [[11]]
    assert offsets(order.settle([(0, 0), (3, 0), (7, 0)], parked=False).going) == [[1, 5]]
    assert offsets(order.settle([(1, 0), (5, 0)], parked=False).going) == [[9], [6, 8]]
    assert offsets(order.settle([(6, 0), (8, 0)], parked=False).going) == [[10]]


def test_with_park_a_batch_is_divided_at_events_behind_a_parked_event() -> None:
    order = Order(keys_of, LIMITS, park=True)
    order.admit_together([event(0, "a")])
    assert order.admit_together([event(1, "a"), event(2, "b"), event(3, "b")]) == ([], [])
    freed = order.settle([(0, 0)], parked=True)
    assert (offsets(freed.going), offsets([freed.behind])) == ([[2]], [[1]])
    assert offsets(order.settle([(2, 0)], parked=False).going) == [[3]]


@pytest.mark.promise(10)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=40),
    parks=st.tuples(st.booleans(), st.booleans()),
    data=st.data(),
)
def test_after_a_crash_batches_stay_whole_and_each_key_ends_in_order(
    keys: list[str | None], parks: tuple[bool, bool], data: st.DataObject
) -> None:
    """The keys may be others than before (`order_by`), and so may `after_parked`: then only the order is promised."""
    fresh, others = [event(offset, key) for offset, key in enumerate(keys)], data.draw(st.booleans())
    sent, going, saved = list[list[Event]](), list[list[Event]](), set[int]()
    order, end = Order(keys_of, LIMITS, park=parks[0]), data.draw(st.integers(0, 60))
    for _ in range(end):  # until the crash
        if fresh and (not going or data.draw(st.booleans())):
            cut = data.draw(st.integers(1, len(fresh)))
            batches, fresh = order.admit(fresh[:cut]).going, fresh[cut:]
        elif going:
            batch = going.pop(data.draw(st.integers(0, len(going) - 1)))
            saved |= {*_of(batch)} if data.draw(st.booleans()) else set()
            batches = order.settle(places(batch), parked=False).going
        else:
            break
        sent += batches
        going += batches

    def key_now(event: Event) -> str | None:
        key = key_of(event)
        return None if key is None else "abcdabc"["abcd".index(key) + event.offset % 3 * others]

    order = Order(lambda events: [*map(key_now, events)], LIMITS, park=parks[1])
    going, ended = list[list[Event]](), defaultdict[str | None, list[int]](list)
    together = [batch for batch in sent if not saved & {*_of(batch)}]
    gone = saved | {n for batch in together for n in _of(batch)}
    rest = [event(offset, key) for offset, key in enumerate(keys) if offset not in gone]
    went = list[list[int]]()
    while together or rest or going:
        if together and (not going or data.draw(st.booleans())):
            batches = order.admit_together(together.pop(0)).going
        elif rest and not together and (not going or data.draw(st.booleans())):
            batches, rest = order.admit(rest).going, []
        else:
            batch = going.pop(data.draw(st.integers(0, len(going) - 1)))
            for one in batch:
                ended[key_now(one)].append(one.offset)
            batches = order.settle(places(batch), parked=False).going
        going += batches
        went += offsets(batches)
    assert sorted(n for batch in went for n in batch) == [n for n in range(len(keys)) if n not in saved]
    if not others:
        assert all(_of(batch) in went for batch in sent if not saved & {*_of(batch)})
        assert all(found == sorted(found) for key, found in ended.items() if key is not None)
