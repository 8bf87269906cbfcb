"""Make the status of a relay, of a lane and of a source, with what a test gives."""

from typing import Any

from msgspec.structs import replace

from relay.histogram import QUICK, SLOW, Histogram
from relay.status.model import JournalStatus, LaneStatus, SourceStatus, Status

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 86400 + 43200


def a_source(**given: Any) -> SourceStatus:
    """A source that takes events."""
    of = SourceStatus(
        source="braze", file="20-braze.toml", accepted=10, unreadable=0, duplicates=0, requests={"2xx": 1, "4xx": 0},
        last=NOON - 2, rate=5.0, refusing=None, ack=Histogram(QUICK),
    )  # fmt: skip
    return replace(of, **given)


def a_lane(**given: Any) -> LaneStatus:
    """A lane that works."""
    of = LaneStatus(
        connector="heap", type="heap", file="60-heap.toml", state="working", since=None,
        breaker="closed", next_try=0.0, accepted=10, outcomes={"delivered": 10, "parked": 0}, pending=0,
        oldest_pending=None, rate=5.0, drained_in=0.0, last_error=None, parked_now=0, parked=0,
        attempts={"delivered": 1}, attempt=Histogram(QUICK), end_to_end=Histogram(SLOW),
    )  # fmt: skip
    return replace(of, **given)


def a_status(**given: Any) -> Status:
    """A relay with one source and one lane, at noon."""
    journal = JournalStatus(
        oldest=0, head=10, size=100, needed=10, capacity=1000, full_in=None, refusing=None, bytes=900, failed=0,
        syncs=Histogram(QUICK),
    )  # fmt: skip
    of = Status(
        version="1", now=NOON, started=NOON - 3600, cpu=36.0, memory=1 << 20, sources=[a_source()], lanes=[a_lane()],
        journal=journal, parked=[],
    )  # fmt: skip
    return replace(of, **given)
