"""Chooses the segments that may be removed. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Protocol, TypeVar

from relay.journal.segment import PREFIX
from relay.store import JournalLimits

MAX_SEGMENT_BYTES: Final = 64 << 20
MIN_SEGMENT_BYTES: Final = 1 << 20


class Removable(Protocol):
    """A segment, wherever it is."""

    @property
    def base(self) -> int:
        """The offset of its first event."""

    @property
    def end(self) -> int:
        """The offset behind its last event."""

    @property
    def size(self) -> int:
        """Bytes that its removal gives back."""

    @property
    def written(self) -> float:
        """Time of its last event in Unix seconds."""


S = TypeVar("S", bound=Removable)


def choose_segment_size(limits: JournalLimits) -> int:
    """Return the bytes of a segment: at most a sixteenth of the journal, the unit of removal."""
    return max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, limits.max_size // 16))


def find_largest_record(limits: JournalLimits) -> int:
    """Return the bytes of a record that fits once all other events are delivered, beside a last segment of the same
    size."""
    return limits.max_size // 2 - PREFIX.size


def choose_expendable(
    segments: Sequence[S], limits: JournalLimits, keep: int, replay_floor: int, now: float, lacking: float
) -> list[S]:
    """Return the oldest segments that may be removed: older than the retention, or in the way of `lacking` more bytes.

    Segments with needed events (`keep`: the first needed offset) stay, unless the limits allow their removal to make
    room. `replay_floor`: oldest offset a running replay needs; kept past retention while space allows. A segment is no
    newer than the segments behind it, whatever the clock was.

    The last segment with events always stays: it tells a restart how far the journal has come.
    """
    found = []
    held = [segment for segment in segments if segment.end > segment.base]
    written = [*accumulate((segment.written for segment in reversed(held)), min)][::-1]
    for segment, at in zip(held[:-1], written, strict=False):
        if segment.end > keep:
            may_go = limits.expire_oldest and lacking > 0
        else:
            may_go = lacking > 0 or (segment.end <= replay_floor and now - at > limits.retention)
        if not may_go:
            break
        found.append(segment)
        lacking -= segment.size
    return found
