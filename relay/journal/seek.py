"""Finds the place in the journal where a time begins, and the time of a place."""

from collections.abc import Sequence
from contextlib import closing

from relay.journal.segment import Corrupt, Segment, SegmentReader


def offset_at(segments: Sequence[Segment], head: int, received: float) -> int:
    """The offset of the first event that was received at this Unix time or later; the head if there is none.

    What is damaged is passed over. Blocking: reads the segment in which the time lies, and perhaps the one before.
    Raises OSError.
    """
    for segment in segments:
        if segment.written >= received and (found := _offset_in(segment, min(segment.end, head), received)) is not None:
            return found
    return head


def _offset_in(segment: Segment, end: int, received: float) -> int | None:
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


def received_at(segments: Sequence[Segment], head: int, offset: int) -> float | None:
    """When the event at this offset, or the next one that is there, was received, in Unix seconds; None if none is.

    Blocking: passes over the records of one segment. Raises Corrupt, OSError.
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
