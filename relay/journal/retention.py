"""Which segments may go. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.journal.segment import Segment

MAX_SEGMENT_BYTES: Final = 64 << 20
MIN_SEGMENT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the journal may keep: `max_size` bytes on disk, delivered events for `retention` seconds."""

    max_size: int
    retention: float

    @property
    def segment_size(self) -> int:
        """Bytes of a segment: small enough that a sixteenth of the journal is the unit of removal."""
        return max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, self.max_size // 16))


def expendable(segments: Sequence[Segment], limits: Limits, keep: int, now: float, needed: int) -> list[Segment]:
    """The oldest segments that may be removed: nobody needs an event in them (`keep` is the first needed offset), and
    they are older than the retention or in the way of `needed` more bytes. The last segment always stays."""
    size, found = sum(segment.size for segment in segments), []
    for segment in segments[:-1]:
        old = now - segment.written > limits.retention
        if segment.end > keep or not (old or size + needed > limits.max_size):
            break
        found.append(segment)
        size -= segment.size
    return found
