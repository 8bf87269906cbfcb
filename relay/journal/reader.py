"""Reads the journal from an offset, while it grows and its oldest segments are removed."""

import asyncio
import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from relay.api import Block
from relay.journal.failure import convert_disk_errors
from relay.journal.live.subscribers import Subscribers
from relay.journal.live.tail import Tail
from relay.journal.live.tail_reader import TailReader
from relay.journal.segment import Corrupt, Segment, SegmentReader, count_readable_events
from relay.journal.writer import Writer
from relay.store import Damage, Wants
from relay.threads import JOURNAL_READS

GONE: Final = "the file is gone"


class Reader(TailReader):
    """Reads on from an offset: from memory if possible, else from the segments in a thread."""

    def __init__(
        self,
        head: Callable[[], int],
        writer: Writer,
        tail: Tail,
        readers: set["Reader"],
        waiting: Subscribers,
        wants: Wants,
    ) -> None:
        super().__init__(head, tail, waiting, wants)
        self._writer, self._readers = writer, readers
        self._segment: SegmentReader | None = None
        self._lock = threading.Lock()
        self.reading: asyncio.Future[tuple[list[Block], int]] | None = None
        """The last read from disk."""
        readers.add(self)

    async def _read_stored(self, offset: int) -> tuple[list[Block], int]:
        self.reading = asyncio.get_running_loop().run_in_executor(JOURNAL_READS, self._read_disk, offset)
        with convert_disk_errors():
            return await self.reading

    async def _release(self) -> None:
        await JOURNAL_READS.run(self.release_file)

    def _read_disk(self, offset: int) -> tuple[list[Block], int]:
        """Read the blocks from this offset on; return them, and the offset for the next read."""
        with self._lock:
            segments, head = self._writer.segments, self._head()
            if not segments:
                return [], head
            place = max(0, bisect_right(segments, offset, key=lambda segment: segment.base) - 1)
            segment = segments[place]  # it holds the offset, or it is the first
            end = min(segments[place + 1].base, head) if place + 1 < len(segments) else head
            start = max(offset, segment.base)
            try:
                if self._segment is None or self._segment.path != segment.path or self._segment.is_replaced:
                    self._close()
                    self._segment = SegmentReader(segment.path)
                reader = self._segment
                blocks = reader.read(start, end)
                following = max(offset, reader.offset)
            except Corrupt as damage:
                return [], self._skip_damage(segment, start, end, str(damage).removeprefix(f"{segment.path}: "))
            except FileNotFoundError:
                if segment not in self._writer.segments:  # it expired between the look and the opening
                    return [], offset
                if not self._writer.is_home():
                    raise
                return [], self._skip_damage(segment, start, end, GONE)
        inside = offset - blocks[0].offsets[0] if blocks else 0
        return [blocks[0].slice(inside, len(blocks[0])), *blocks[1:]] if inside > 0 else blocks, following

    def _skip_damage(self, segment: Segment, start: int, end: int, why: str) -> int:
        """Skip what is unreadable from `start` on; return the offset to go on with, `end` at the latest."""
        if (held := self._tail.start) is not None and start < held:
            end = min(end, held)
        reader = self._segment
        there = reader is not None and reader.path == segment.path and reader.find(start)
        following = max(start, min(reader.offset, end)) if reader is not None and there else end
        if following > start and not self._writer.lost.knows(start, following):
            saved = None if why == GONE else count_readable_events(segment.path)
            self._writer.lost.add(Damage(start, following, segment.path.name, why, saved))
        return following

    def release_file(self) -> None:
        """Close the file, so that a removed or replaced file takes no more space. Blocking."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def close(self) -> None:
        """Leave the journal, and close the file once no read of it is under way."""
        super().close()
        self._readers.discard(self)
        if self._lock.acquire(blocking=False):
            self._close()
            self._lock.release()
        else:
            JOURNAL_READS.submit(self.release_file)
