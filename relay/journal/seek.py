"""Finds the place in the journal where a time begins, and the time of a place."""

from collections.abc import Sequence

from relay.journal.segment import Segment, SegmentReader


def offset_at(segments: Sequence[Segment], head: int, received: float) -> int:
    """The offset of the first event that was received at this Unix time or later; the head if there is none.

    Blocking: reads the segment in which the time lies, and perhaps the one before. Raises Corrupt, OSError.
    """
    for segment in segments:
        if segment.written >= received and (found := _offset_in(segment, min(segment.end, head), received)) is not None:
            return found
    return head


def _offset_in(segment: Segment, end: int, received: float) -> int | None:
    reader = SegmentReader(segment.path)
    offset = segment.base
    try:
        while offset < end:
            for block in reader.read(offset, end):
                if block.received >= received:
                    return block.offsets[0]
            offset = reader.offset
    finally:
        reader.close()
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
