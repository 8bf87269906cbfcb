"""The batch reader: reads a lane's part of the journal and cuts it into spans."""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Final

from relay.api import BatchSettings, Block
from relay.deliver.batch.builder import BatchBuilder, Span
from relay.deliver.batch.sent_together import Ranges
from relay.route import Route, Routed
from relay.store import Counts, Cursor, Log, find_unsettled, merge_ranges

FILTERED_AT_ONCE: Final = 256
SELECTED_AT_ONCE: Final = 4096
SHORT_AGE_S: Final = 0.01
"""A batch with an age up to this counts it from the batch before: the age limits how often batches start, and an event
after a pause does not wait."""


class BatchReader:
    """Reads spans one after the other, from the cursor of a lane up to offset `until`. Begins with the spans of `cuts`,
    which were under way before."""

    def __init__(
        self,
        journal: Log,
        cursor: Cursor,
        route: Route,
        limits: BatchSettings,
        until: int,
        cuts: Sequence[Ranges] = (),
    ) -> None:
        self._journal, self._route, self._limits = journal, route, limits
        self._reader = journal.open_reader(route.selection.wants)
        self._position, self._until = cursor.position, until
        self._ahead = list(cursor.ahead)
        """Ranges that were settled before the start, or were in `cuts`."""
        self._cuts, self._resumed = deque(cuts), deque[Span]()
        self._blocks: list[Block] = []
        """The blocks read last for the cuts."""
        self._builder = BatchBuilder(cursor.position, limits)
        self._taken = 0.0
        """When the batch before was full or due (loop time)."""
        self._oldest = self._due = 0.0
        """Until when the current batch waits for more (loop time): at the longest, and until the next check."""
        self._pieces: deque[tuple[Block, int, int]] = deque()
        """Pieces of blocks: the block, the first event, and the end. A piece is sliced when it is taken."""
        self._missing: deque[Span] = deque()

    async def read_next(self) -> Span | None:
        """Wait for the next span and return it; None at the end."""
        while self._cuts or self._resumed:
            if self._resumed:
                return self._resumed.popleft()
            await self._rebuild_cut(self._cuts.popleft())
        if self._position >= self._until and self._builder.is_empty and not self._pieces and not self._missing:
            return None
        while not self._builder.is_full:
            if self._missing and self._builder.is_empty:
                return self._missing.popleft()
            if self._missing or (not self._pieces and not await self._fetch()):
                break
            if self._pieces and not self._take_piece():
                break
            if self._pieces and self._pieces[0][1]:  # within a block: others have their turn, even if nothing is wanted
                await asyncio.sleep(0)
        if self._builder.is_empty:  # all that was left is settled
            return None
        span = self._builder.take()
        self._taken = asyncio.get_running_loop().time()
        self._start_age()
        return span

    async def _rebuild_cut(self, cut: Ranges) -> None:
        """Build a batch again that was cut so: one span, if all of it can be read and the limits are no narrower."""
        builder, read, spans = BatchBuilder(cut[0][0], self._limits), list[tuple[int, int]](), list[Span]()
        async for piece in self._read_cut(cut):
            read.append((piece.offsets[0], piece.offsets[-1] + 1))
            at: int | None = 0
            while at is not None:
                routed = self._route(piece.slice(at, len(piece)), part=True)
                builder.add(piece.offsets[-1] + 1 if routed.stop is None else routed.stop, routed)
                at = None if routed.stop is None else routed.stop - piece.offsets[0]
                while builder.is_full:
                    spans.append(builder.take())
                await asyncio.sleep(0)
        if not builder.is_empty:
            spans.append(builder.take())
        ranges = merge_ranges(read)
        self._ahead = merge_ranges(sorted([*self._ahead, *ranges]))
        is_cut = len(spans) == 1 and ranges == cut
        self._resumed += [replace(span.restrict_to(ranges), is_cut=is_cut) for span in spans]
        if not self._cuts:
            self._blocks = []

    async def _read_cut(self, cut: Ranges) -> AsyncIterator[Block]:
        """Yield the events of a cut that can be read."""
        for start, stop in cut:
            at = start
            while at < stop:
                if not self._blocks or not self._blocks[0].offsets[0] <= at <= self._blocks[-1].offsets[-1]:
                    self._blocks = await self._reader.read(at)
                if not self._blocks:
                    break
                # The block with this offset or, if it cannot be read, the next block
                block = self._blocks[bisect_left(self._blocks, at, key=lambda block: block.offsets[-1])]
                first = block.offsets[0]
                at, end = max(at, first), min(stop, block.offsets[-1] + 1)
                for _, one, other in self._cut_pieces(block, at - first, end - first) if at < end else ():
                    yield block.slice(one, other)
                    await asyncio.sleep(0)
                at = end

    def _take_piece(self) -> bool:
        """Route the next piece into the current batch; return False if the piece does not adjoin the batch."""
        block, at, stop = self._pieces[0]
        start = block.offsets[at]
        if start != self._builder.stop:
            if not self._builder.is_empty:
                return False
            self._builder = BatchBuilder(start, self._limits)
        if self._limits.align and self._builder.events and block.received // self._limits.align != self._align_slot:
            return False
        self._pieces.popleft()
        fresh = not self._builder.events
        routed = self._route(block.slice(at, stop), part=True)
        end = start + stop - at
        if routed.stop is not None:
            end = routed.stop
            self._pieces.appendleft((block, at + end - start, stop))
        self._builder.add(end, routed)
        if fresh:
            self._start_age()
        return True

    def _start_age(self) -> None:
        if self._builder.events:
            start = self._taken if self._limits.age <= SHORT_AGE_S else asyncio.get_running_loop().time()
            self._oldest = self._due = start + self._limits.age
            if self._limits.align:
                self._set_align_due()

    @property
    def _align_slot(self) -> float:
        """The multiple of `align` that the current batch is in."""
        return self._builder.first_received // self._limits.align

    def _set_align_due(self) -> float:
        """Set the next check to the end of the batch by `align`; return the seconds until then."""
        wait = (self._align_slot + 1) * self._limits.align - time.time()
        self._due = min(self._oldest, asyncio.get_running_loop().time() + max(0.0, wait))
        return wait

    async def _fetch(self) -> bool:
        """Read on; return False if the current batch must not wait for more."""
        if self._position >= self._until:
            return False
        if self._builder.is_empty or self._journal.head > self._position:
            return await self._read_on()
        if not self._builder.events or self._oldest <= asyncio.get_running_loop().time():
            return False
        try:
            async with asyncio.timeout_at(self._due):
                return await self._read_on()
        except TimeoutError:  # up to the multiple of `align` at which the batch ends, events may still come
            if not self._limits.align or asyncio.get_running_loop().time() >= self._oldest:
                return False
            if self._set_align_due() > 0:  # the clock was set back
                return True
            await self._journal.await_commit()  # events of a commit that was under way are there now
            return self._journal.head > self._position

    async def _read_on(self) -> bool:
        """Read the next blocks and queue their unsettled events, or skip what is not wanted without reading it. Return
        False if the next events do not adjoin the current batch."""
        first = min(await self._reader.skip(self._position), self._until)
        if first == self._position:
            for block in await self._reader.read(first):
                self._skip_missing(block.offsets[0])  # a gap before a block was removed by retention, or is damaged
                start, stop = (min(offset, self._until) for offset in (block.offsets[0], block.offsets[-1] + 1))
                for one, end in find_unsettled(start, stop, self._ahead):
                    self._pieces += self._cut_pieces(block, one - start, end - start)
                self._position = stop
            self._skip_missing(self._reader.offset)
            return True
        if self._builder.stop != self._position:
            if not self._builder.is_empty:
                return False
            self._builder = BatchBuilder(self._position, self._limits)
        self._builder.add(first, Routed(None))
        self._position = first
        return True

    def _skip_missing(self, offset: int) -> None:
        """Skip to this offset: nothing before it can be read."""
        start = min(offset, self._until)
        if start > self._position:
            for first, stop in find_unsettled(self._position, start, self._ahead):
                self._missing += make_missing_spans(first, stop, self._journal.trimmed)
            self._position = start

    def _cut_pieces(self, block: Block, start: int, stop: int) -> list[tuple[Block, int, int]]:
        """Cut a block into pieces. Filters get small pieces, whose memory the next piece uses again. A selection gets
        large pieces, and only where there are very many kinds of events."""
        if not self._route.filters and len(block.kinds) <= SELECTED_AT_ONCE:
            return [(block, start, stop)]
        at_once = FILTERED_AT_ONCE if self._route.filters else SELECTED_AT_ONCE
        return [(block, at, min(at + at_once, stop)) for at in range(start, stop, at_once)]

    def close(self) -> None:
        """Close the reader of the journal."""
        self._reader.close()


def make_missing_spans(start: int, stop: int, trimmed: int) -> Iterator[Span]:
    """Yield the spans of events that cannot be read. Events below `trimmed` had to leave the journal; the others are
    damaged."""
    middle = min(max(start, trimmed), stop)
    if start < middle:
        yield Span(start, middle, None, (), Counts(expired=middle - start))
    if middle < stop:
        yield Span(middle, stop, None, (), Counts(damaged=stop - middle))
