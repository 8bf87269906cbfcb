"""Events of one key stay in order, whatever becomes of them; those of other keys go on."""

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from relay.api import BatchSettings, Event, Kind
from relay.deliver.order import Order

LIMITS = BatchSettings(events=5)
KIND = Kind("braze", "users.canvas.Entry")


def event(offset: int, key: str | None) -> Event:
    return Event(b"{}" if key is None else key.encode(), KIND, offset, 0.0)


def key_of(event: Event) -> str | None:
    return None if event.body == b"{}" else event.body.decode()


def offsets(batches: Sequence[Sequence[Event]]) -> list[list[int]]:
    return [*map(_of, batches)]


def _of(events: Sequence[Event]) -> list[int]:
    return [event.offset for event in events]


def test_an_event_waits_for_the_earlier_ones_of_its_key_and_no_other() -> None:
    order = Order(key_of, LIMITS, park=False)
    first = order.admit([event(0, "a"), event(1, "b"), event(2, "a"), event(3, None)])
    assert offsets(first.going) == [[0, 1, 2, 3]]
    assert offsets(order.admit([event(4, "a"), event(5, "c"), event(6, "a")]).going) == [[5]]
    assert offsets(order.settled(_of(first.going[0][:1]), parked=False).going) == []
    assert offsets(order.settled(_of(first.going[0][1:]), parked=True).going) == [[4, 6]]


def test_what_has_no_room_in_the_batch_waits_for_those_of_its_key_in_it() -> None:
    order = Order(key_of, LIMITS, park=False)
    first = order.admit([event(offset, "ab"[offset == 6]) for offset in range(8)])
    assert offsets(first.going) == [[0, 1, 2, 3, 4], [6]]
    assert offsets(order.settled(_of(first.going[0]), parked=False).going) == [[5, 7]]


def test_with_park_an_event_behind_a_parked_one_is_parked_until_that_is_gone() -> None:
    order = Order(key_of, LIMITS, park=True)
    first = order.admit([event(0, "a"), event(1, "a"), event(2, "b")])
    assert offsets(first.going) == [[0, 2]]
    freed = order.settled(_of(first.going[0][:1]), parked=True)
    assert (offsets(freed.going), offsets([freed.behind])) == ([], [[1]])
    order.settled([1], parked=True)
    order.reading()
    order.read([])
    assert offsets(order.admit([event(3, "a")]).going) == [[3]]


def test_with_park_none_passes_those_on_their_way_to_be_parked() -> None:
    order = Order(key_of, LIMITS, park=True)
    order.failed([event(0, "a")])
    assert order.admit([event(1, "a")]) == ([], [])
    behind = order.settled([0], parked=True).behind
    assert offsets([behind]) == [[1]]
    order.reading()
    order.read([])
    assert order.admit([event(2, "a")]) == ([], []), "though the first is gone, the second is not parked yet"
    assert offsets([order.settled([1], parked=True).behind]) == [[2]]
    assert offsets(order.admit([event(3, "b")]).going) == [[3]]


@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=40),
    park=st.booleans(),
    data=st.data(),
)
def test_whatever_ends_first_each_key_ends_in_order(keys: list[str | None], park: bool, data: st.DataObject) -> None:
    order = Order(key_of, LIMITS, park=park)
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
        sort(*order.settled(_of(batch), parked=parked))
    assert all(found == sorted(found) for found in ended.values())
    assert sum(map(len, ended.values())) + len(behind) == len([key for key in keys if key])
    assert {key_of(one) for one in behind} <= aside
