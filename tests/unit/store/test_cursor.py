"""A cursor is the same in whatever order events are settled."""

from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from relay.store import Counts, Cursor, find_unsettled


@given(cuts=st.sets(st.integers(1, 99), max_size=12), order=st.randoms())
def test_a_cursor_settled_in_any_order_ends_at_the_end(cuts: set[int], order: Any) -> None:
    edges = [0, *sorted(cuts), 100]
    ranges = list(pairwise(edges))
    order.shuffle(ranges)
    cursor = Cursor(0, 0)
    for done, (start, stop) in enumerate(ranges, 1):
        cursor.settle(start, stop, Counts(delivered=stop - start))
        settled = {n for first, last in ranges[:done] for n in range(first, last)}
        assert set(range(cursor.position)) <= settled
        assert all(stop < start for (_, stop), (start, _) in pairwise([(0, cursor.position), *cursor.ahead]))
        open_ranges = find_unsettled(0, 100, [(0, cursor.position), *cursor.ahead])
        assert {n for first, last in open_ranges for n in range(first, last)} == set(range(100)) - settled
        assert cursor.make_ledger(100).pending == 100 - len(settled)
    assert (cursor.position, cursor.ahead) == (100, [])


@example([4, 9, 5, 7])
@given(st.sets(st.integers(0, 12)).flatmap(lambda offsets: st.permutations(sorted(offsets))))
def test_single_events_are_settled_in_any_order(offsets: list[int]) -> None:
    cursor = Cursor(0, 0)
    cursor.settle_each(offsets, Counts(delivered=len(offsets)))
    assert {offset for offset in range(14) if cursor.is_settled(offset)} == {*offsets}
