"""Appends to one partition, also to a partition that this process does not run."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog

from relay.api import Block, Kind
from relay.histogram import Histogram
from relay.journal import Group, GroupAppender, Lost
from relay.postgres.connection import Database
from relay.postgres.log.seen import forget_expired, forget_sources
from relay.postgres.log.segments import Catalogue
from relay.postgres.log.writer import Committed, PostgresWriter
from relay.store import Clock, EventIds, JournalLimits, Unavailable
from relay.threads import ADMIN

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
FORGET_S: Final = 30.0
"""Seconds between two deletions of ids that are too old."""
REFUSING_S: Final = 3.0
"""Seconds after a failed commit until senders may try again."""
log = structlog.stdlib.get_logger()


class PostgresAppender(GroupAppender[Committed]):
    """Puts events into the log of one partition. Use it from one event loop."""

    def __init__(self, database: Database, partition: int, limits: JournalLimits) -> None:
        """Connects at the first append. `limits`: of this partition."""
        super().__init__(limits, f"log writer {partition}", REFUSING_S)
        self._lost = Lost()
        self._database, self._catalogue = database, Catalogue(partition, self._lost)
        self._writer = PostgresWriter(database, limits, self._catalogue)
        self._is_closed = False
        self._forgot_at: dict[str, float] = {}
        """When old ids of a source were deleted last, by the monotonic clock."""
        self._deletions: list[Future[None]] = []
        """Deletions of old ids under way."""
        self.own_taps: set[Callable[[Block], object]] = set()
        """Functions that get each block that was appended here. They must be quick."""

    @property
    def is_usable(self) -> bool:
        """Whether appends are possible: the log is neither closed nor fenced."""
        return not self._is_closed and not self._commits.fenced

    @property
    def clock(self) -> Clock:
        """The clock by which data expires: the server's."""
        return self._writer.clock

    @property
    def syncs(self) -> Histogram:
        """Seconds that each commit took to become durable."""
        return self._writer.syncs

    @asynccontextmanager
    async def append_new(
        self, kinds: Sequence[Kind], bodies: Sequence[Any], by: EventIds
    ) -> AsyncIterator[Sequence[int]]:
        """Append the events that are no duplicates; yield their places once they are durable. Raises Unavailable,
        TooLarge."""
        fresh: Sequence[int] = await self._commits.add(kinds, bodies, by) if by.ids else ()
        self._forget_expired(by)
        yield fresh

    def _forget_expired(self, by: EventIds) -> None:
        """Delete ids that are too old, now and then, in a thread of its own."""
        now = time.monotonic()
        if now > self._forgot_at.get(by.source, 0.0) + FORGET_S:
            self._forgot_at[by.source] = now
            self._deletions = [one for one in self._deletions if not one.done()]
            self._deletions.append(ADMIN.submit(self._delete_expired, by.source, by.window))

    def _delete_expired(self, source: str, window: float) -> None:
        with suppress(Unavailable), self._database.use() as db:  # it is done another time
            while not self._is_closed and forget_expired(db, source, window):
                pass

    async def forget_ids(self, but: Collection[str]) -> None:
        """Forget the ids of all sources but these."""
        await ADMIN.run(self._delete_sources, but)

    def _delete_sources(self, but: Collection[str]) -> None:
        with self._database.use() as db:
            forget_sources(db, but)

    def _write_group(self, group: Group) -> Committed:
        try:
            return self._writer.write(group)
        except Unavailable as error:
            if not self._commits.failing and not error.is_logged:
                log.error("the journal takes no events", reason=str(error))
            raise

    def _publish(self, group: Group, committed: Committed) -> None:
        if committed.block is not None:
            self.bytes += len(committed.block.body)
            for tap in self.own_taps:
                tap(committed.block)
            self._show(committed.block)
        for (_, future), result in zip(group.waiting, committed.results, strict=True):
            if not future.done():
                future.set_result(result)

    def _show(self, block: Block) -> None:
        """Show a block of this process to whoever follows the log."""
        for tap in self.taps:
            tap(block)

    async def _work(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await work_in(self._thread, work, *arguments)

    def set_limits(self, limits: JournalLimits, memory: int = 0) -> None:
        """Use other limits from the next commit on."""
        self._writer.limits = limits
        self._commits.set_limits(limits)

    async def close(self) -> None:
        """Finish the commits under way. Does nothing if it is closed already."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._finish_commits()
        await asyncio.gather(*map(asyncio.wrap_future, self._deletions))
        await self._work(self._writer.close)
        self._thread.shutdown()


async def work_in(thread: ThreadPoolExecutor, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Do work in a thread of a log. Raises Unavailable, also if the log is closed."""
    try:
        done = asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
    except RuntimeError as error:  # the thread has ended
        raise Unavailable("the log is closed") from error
    return await done
