"""The log of the toy engine: a list of blocks."""

import asyncio
import math
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from relay.api import Block, Kind, User
from relay.histogram import QUICK, Histogram
from relay.store import (
    Clock,
    Damage,
    Erased,
    ErasedStretch,
    EventIds,
    JournalLimits,
    TooLarge,
    Unavailable,
    Wanted,
    Wants,
    make_block,
)

Append = Callable[[Sequence[Kind], Sequence[Any]], Awaitable[int]]
TAKEN = "another relay has opened the books"
FULL = "the journal has reached its max_size and every event in it is still needed"


class ToyDisk:
    """Stands for the disk of a log: it may be slow, or refuse."""

    def __init__(self) -> None:
        self.is_asked, self.answers = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.error: str | None = None


class ToyLog:
    """A log in memory. See `relay.store.Log`."""

    def __init__(self, limits: JournalLimits, clock: Clock | None = None) -> None:
        self.identity, self.clock, self.disk = uuid4().hex, clock or Clock(), ToyDisk()
        self.limits = limits
        self.head = self.oldest = self.bytes = self.stored = self.failed = self.lost = 0
        self.refusing: str | None = None
        self.syncs = Histogram(QUICK)
        self.taps: set[Callable[[Block], object]] = set()
        self.blocks: list[Block] = []
        self.grown = asyncio.Event()
        self._needed = self._floor = 0
        self._commit, self._lock = asyncio.Lock(), threading.Lock()
        self._seen: dict[str, dict[str, float]] = defaultdict(dict)
        self._sources: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._fenced = ""
        self.withheld: Wanted | None = None

    def reopen(self, limits: JournalLimits) -> "ToyLog":
        """Return the log as the next process finds it. This process writes no more."""
        log = ToyLog(limits)
        with self._lock:
            log.identity, log.head, log.oldest = self.identity, self.head, self.oldest
            log.blocks, log._seen, log._sources = [*self.blocks], self._seen, self._sources
            self.fence(TAKEN)
        return log

    def share_ids(self, other: "ToyLog") -> None:
        """Leave out duplicates of the other log, too."""
        self._seen, self._sources = other._seen, other._sources

    def fence(self, reason: str) -> None:
        """Refuse every write from now on, because another process writes."""
        self._fenced = self.refusing = reason

    def _check_fence(self) -> None:
        if self._fenced:
            raise Unavailable(self._fenced, "taken")

    @property
    def trimmed(self) -> int:
        return self.oldest

    @property
    def size(self) -> int:
        return self.measure_needed(0)

    @property
    def capacity(self) -> int:
        return self.limits.max_size

    @property
    def failing(self) -> bool:
        return self.refusing is not None

    @property
    def unsaved_damage(self) -> Sequence[Damage]:
        return ()

    def drop_saved_damage(self, number: int) -> None:
        assert number == 0

    async def append(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        size = self.check_size(kinds, bodies)
        self._check_fence()
        async with self._commit:
            self.disk.is_asked.set()
            await self.disk.answers.wait()
            with self._lock:
                self._check_fence()
                block = self._add_block(kinds, bodies, size)
        for tap in self.taps:
            tap(block)
        self.grown.set()
        self.grown = asyncio.Event()
        return block.offsets[0]

    def _add_block(self, kinds: Sequence[Kind], bodies: Sequence[Any], size: int) -> Block:
        """Add a block. Raises Unavailable."""
        self._remove_blocks(size)
        if (error := self.disk.error) is None and self.size + size > self.limits.max_size:
            error = FULL
        self.refusing = error
        if error is not None:
            self.failed += 1
            raise Unavailable(error)
        block = make_block(self.head, time.time_ns() // 1000, kinds, bodies)
        self.blocks.append(block)
        self.head += len(block)
        self.bytes += len(block.body)
        self.stored += len(block.body)
        return block

    @asynccontextmanager
    async def append_new(
        self, kinds: Sequence[Kind], bodies: Sequence[Any], by: EventIds, append: Append | None = None
    ) -> AsyncIterator[Sequence[int]]:
        """`append` appends to the log of another partition with the same ids."""
        seen = self._seen[by.source]
        async with self._sources[by.source]:
            now = time.monotonic()
            known = {one for one in by.ids if seen.get(one, -math.inf) >= now - by.window}
            if by.subject is not None:
                known = {one for one in known if seen[one] == seen.get(by.subject)}
            first = {one: place for place, one in reversed([*enumerate(by.ids)]) if one not in known}
            fresh = sorted(first.values())
            if fresh:
                seen.pop(by.subject or "", None)
                await (append or self.append)([kinds[place] for place in fresh], [bodies[place] for place in fresh])
            yield fresh
            if fresh:
                seen |= dict.fromkeys([*first, *([] if by.subject is None else [by.subject])], time.monotonic())

    async def forget_ids(self, but: Collection[str]) -> None:
        for source in self._seen.keys() - {*but}:
            del self._seen[source]

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        if (size := sum(map(len, bodies))) > self.limits.max_size // 2:
            raise TooLarge(f"the events take more than {self.limits.max_size // 2:,} bytes, half of journal.max_size")
        return size

    async def check_room(self) -> None:
        pass

    def set_fillers(self, fillers: Callable[[], str]) -> None:
        pass

    def set_limits(self, limits: JournalLimits, memory: int) -> None:
        self.limits = limits

    async def keep(self, needed: int, replay_floor: int | None = None) -> None:
        self._check_fence()
        self._needed, self._floor = needed, needed if replay_floor is None else replay_floor
        self._remove_blocks(0)

    def _remove_blocks(self, more: int) -> None:
        """Remove expired blocks, and others that nobody needs for `more` bytes of room; the last block stays."""
        while len(self.blocks) > 1:
            first, lacks_room = self.blocks[0], self.size + more > self.limits.max_size
            is_old = self.clock.now() - first.received > self.limits.retention
            if first.offsets[-1] >= self._needed and not (lacks_room and self.limits.expire_oldest):
                return
            if not lacks_room and not (is_old and first.offsets[-1] < self._floor):
                return
            self.oldest = self.blocks.pop(0).offsets[-1] + 1

    def measure_needed(self, offset: int) -> int:
        return sum(len(block.body) for block in self.blocks if block.offsets[-1] >= offset)

    def open_reader(self, wants: Wants = lambda _: True) -> "ToyReader":
        return ToyReader(self, wants)

    async def find_offset(self, received: float) -> int:
        return next((block.offsets[0] for block in self.blocks if block.received >= received), self.head)

    async def find_received(self, offset: int) -> float | None:
        return next((block.received for block in self.blocks if block.offsets[-1] >= offset), None)

    async def await_commit(self) -> None:
        async with self._commit:
            pass

    async def await_reads(self) -> None:
        pass

    async def find_more_ids(self, wanted: Wanted, head: int) -> dict[int, User]:
        return wanted.find_more_ids(body for block in self.blocks for body in block.bodies() if block.offsets[0] < head)

    async def erase(self, wanted: Wanted, head: int) -> AsyncGenerator[ErasedStretch, None]:
        self._check_fence()
        for block in [block for block in self.blocks if block.offsets[0] < head]:
            found = Erased(block, wanted)
            before = [event.offset for event in block.events() if event.kind.is_erased]
            yield ErasedStretch(block.offsets[-1] + 1, found.erased, found.changed, before)
            self.blocks = [found.block if one is block else one for one in self.blocks]

    def withhold(self, wanted: Wanted | None) -> None:
        self.withheld = wanted

    async def close(self) -> None:
        await self.await_commit()


class ToyReader:
    """Reads a ToyLog. See `relay.store.LogReader`."""

    def __init__(self, log: ToyLog, wants: Wants) -> None:
        self._log, self._wants, self.offset = log, wants, log.head

    async def skip(self, offset: int) -> int:
        if offset >= self._log.head:
            await self._log.grown.wait()
            blocks = [block for block in self._log.blocks if block.offsets[0] >= offset]
            wanted = (event.offset for block in blocks for event in block.events() if self._wants(event.type))
            self.offset = offset = next(wanted, self._log.head)
        return offset

    async def read(self, offset: int) -> list[Block]:
        while self._log.head <= offset:
            await self._log.grown.wait()
        place = bisect_left(self._log.blocks, offset, key=lambda block: block.offsets[-1])
        block = self._log.blocks[place]
        self.offset = block.offsets[-1] + 1
        rest = block.slice(max(0, offset - block.offsets[0]), len(block))
        return [rest if self._log.withheld is None else Erased(rest, self._log.withheld).block]

    def close(self) -> None:
        pass
