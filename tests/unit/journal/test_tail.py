"""What is kept of recent events, in bytes: objects count as well."""

import tracemalloc

import pytest

from relay.api import Kind
from relay.journal.live.tail import Tail
from relay.store.block import make_block

LIMIT = 2 << 20


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("events", "size", "own_types"),
    [(1000, 32, True), (1000, 32, False), (1, 32, True), (1, 900, False), (100, 900, True)],
)
def test_the_tail_takes_little_more_than_its_limit_whatever_the_events_are(
    events: int, size: int, own_types: bool
) -> None:
    """Looked at as well: `Tap` (its own test) and what waits for a commit, which `max_in_flight` bounds."""
    tail, kind, offset = Tail(LIMIT), Kind("braze", "a.b"), 0
    tracemalloc.start()
    try:
        while tail.start in (None, 0):
            kinds = [Kind("braze", f"type {offset + n:06}") for n in range(events)] if own_types else [kind] * events
            bodies = [bytes(size) for _ in range(events)]
            tail.add(make_block(offset, 1, kinds, bodies))
            del kinds, bodies
            offset += events
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert LIMIT // 4 < taken < LIMIT * 1.25
    assert tail.size <= LIMIT
