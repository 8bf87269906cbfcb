"""Finds the offset of a time in the journal, and the time of an offset."""

from collections.abc import Sequence
from contextlib import closing

from relay.journal.segment import Corrupt, Segment, SegmentReader


def find_offset_at(segments: Sequence[Segment], head: int, received: float) -> int:
    """Find the offset of the first event received at this Unix time or later; the head without any.

    Skips damage. Blocking: reads the segment of that time, and perhaps the one before. Raises OSError.
    """
    for segment in segments:
        if segment.written >= received:
            found = _find_offset_in(segment, min(segment.end, head), received)
            if found is not None:
                return found
    return head


def _find_offset_in(segment: Segment, end: int, received: float) -> int | None:
    """Find the offset in one segment, below `end`; None without any."""
    try:
        reader = SegmentReader(segment.path)
    except Corrupt:
        return None
    offset = segment.base
    with closing(reader):
        while offset < end:
            try:
                blocks = reader.read(offset, end)
            except Corrupt:
                if not reader.find(offset):
                    return None
                offset = max(offset, reader.offset)
                continue
            for block in blocks:
                if block.received >= received:
                    return block.offsets[0]
            offset = reader.offset
    return None


def find_received_at(segments: Sequence[Segment], head: int, offset: int) -> float | None:
    """Find when the event at this offset, or the next one, was received, in Unix seconds; None without any.

    Blocking: skips through the records of one segment. Raises Corrupt, OSError.
    """
    for segment in segments:
        if min(segment.end, head) > offset:
            reader = SegmentReader(segment.path)
            try:
                blocks = reader.read(max(offset, segment.base), min(segment.end, head))
            finally:
                reader.close()
            if blocks:
                return blocks[0].received
    return None
