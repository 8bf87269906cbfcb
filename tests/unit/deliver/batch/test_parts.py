"""Events that filters have split: an event has one outcome, once all of its parts have theirs."""

from collections import Counter
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from relay.api import Batch, BatchSettings, Block, Event, Kind
from relay.deliver.batch.parts import RANKS, EventOutcome, Settled, settle_whole_events, split_to_limits
from relay.store import Counts

KIND = Kind("shop", "shop.Order")
OUTCOMES: list[EventOutcome] = ["filtered", "delivered", "parked"]


def batch_of(sizes: list[int]) -> Batch:
    """Events of so many parts."""
    events = [Event(b"%d.%d" % (n, part), KIND, n, 1.0, part) for n, parts in enumerate(sizes) for part in range(parts)]
    return Batch([Block.of(events)])


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8), data=st.data())
def test_an_event_has_the_outcome_of_its_parts_once_all_of_them_have_one(sizes: list[int], data: st.DataObject) -> None:
    batch = batch_of(sizes)
    fates = data.draw(st.lists(st.sampled_from(OUTCOMES), min_size=len(batch), max_size=len(batch)))
    turns = data.draw(st.permutations(range(len(batch))))
    done = turns[: data.draw(st.integers(0, len(turns)))]
    found = Counter[EventOutcome]()
    offsets: list[int] = []
    for one in settle_whole_events(batch, [Settled(batch.pick([number]), fates[number]) for number in done]):
        found[one.outcome] += len(one.offsets)
        offsets += one.offsets
        assert one.counts == Counts(**{one.outcome: len(one.offsets)})
    first = [0, *accumulate(sizes)]
    parts = {n: range(first[n], first[n + 1]) for n in range(len(sizes))}
    ended = [n for n in parts if {*parts[n]} <= {*done}]
    assert sorted(offsets) == ended
    assert found == Counter(max((fates[number] for number in parts[n]), key=RANKS.__getitem__) for n in ended)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8), events=st.integers(1, 9), size=st.integers(1, 30))
def test_what_is_more_than_the_limits_goes_in_several_batches(sizes: list[int], events: int, size: int) -> None:
    batch = batch_of(sizes)
    limits = BatchSettings.model_construct(events=events, size=size, age=0.0)
    cut = list(split_to_limits(batch, limits))
    assert [body for one in cut for body in one.bodies()] == batch.bodies()
    assert [place for one in cut for place in one.places()] == batch.places()
    assert all(len(one) <= events and (one.size <= size or len(one) == 1) for one in cut)
    assert len({one.id for one in cut}) == len(cut)
