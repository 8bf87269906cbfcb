"""Which segments may go. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from relay.journal.segment import PREFIX, Segment

MAX_SEGMENT_BYTES: Final = 64 << 20
MIN_SEGMENT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """How much the journal may keep: `max_size` bytes on disk, delivered events for `retention` seconds."""

    max_size: int
    retention: float
    min_free: int = 0
    """Bytes that a new segment leaves free on the file system; 0: the file system is not asked."""
    expire_oldest: bool = False
    """When space is lacking, events that are still needed go, too."""

    @property
    def segment_size(self) -> int:
        """Bytes of a segment: small enough that a sixteenth of the journal is the unit of removal."""
        return max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, self.max_size // 16))

    @property
    def largest_record(self) -> int:
        """Bytes of a record that always fits in once all others are delivered: the last segment stays, and may hold
        one that is as large."""
        return self.max_size // 2 - PREFIX.size


def expendable(
    segments: Sequence[Segment], limits: JournalLimits, keep: int, liked: int, now: float, lacking: float
) -> list[Segment]:
    """The oldest segments that may be removed: older than the retention, or in the way of `lacking` more bytes. They go
    while nobody needs an event in them (`keep` is the first needed offset) or, to make room, if the limits say so.
    Events from `liked` on are kept beyond the retention as long as there is room. A segment is no newer than those
    behind it, whatever the machine's clock was when it was written.

    The last segment with events always stays: it tells a restart how far the journal has come."""
    found = []
    held = [segment for segment in segments if segment.end > segment.base]
    written = [*accumulate((segment.written for segment in reversed(held)), min)][::-1]
    for segment, at in zip(held[:-1], written, strict=False):
        if segment.end > keep:
            may_go = limits.expire_oldest and lacking > 0
        else:
            may_go = lacking > 0 or (segment.end <= liked and now - at > limits.retention)
        if not may_go:
            break
        found.append(segment)
        lacking -= segment.size
    return found
