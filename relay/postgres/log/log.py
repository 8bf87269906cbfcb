"""The log of a partition that this process runs: appends, reads on, and notices what other processes append.

How it fails and recovers:

- Blocks of this process are published when they are durable, if they follow the last known block. Otherwise the log
  looks into the database, and publishes what other processes have appended in between, in the order of offsets.
- Own appends make looks unnecessary: the offset of an append tells whether others have appended before. Without news
  the looks become rare. A look that fails is repeated.
- A database that lacks acknowledged events is older than what this process knows. The next segment begins behind their
  offsets at once, and they are told as damage.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar, TypeVarTuple

import psycopg
import structlog

from relay.api import Block, User
from relay.journal import Subscribers, Tail
from relay.postgres.connection import Database, Lasting, PostgresConnection
from relay.postgres.log.appender import PostgresAppender, work_in
from relay.postgres.log.blocks import find_base, find_received
from relay.postgres.log.reader import PostgresReader
from relay.postgres.log.rewrite import find_ids, plan_table, rewrite_table
from relay.postgres.log.segments import SegmentTable, find_log_end
from relay.postgres.log.stored import StoredEvents
from relay.store import Damage, ErasedStretch, JournalLimits, Unavailable, Wanted, Wants, is_logged, merge_users
from relay.threads import ADMIN

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SHORTEST_LOOK_S: Final = 0.02
LONGEST_LOOK_S: Final = 0.25
SLOWER: Final = 1.5
"""How much longer the pause becomes after a look without news."""
LOOK_BYTES: Final = 1 << 20
"""Bytes of events that a look takes along, about."""
REWRITE_S: Final = 60.0
"""Seconds for a statement of an erasure."""
log = structlog.stdlib.get_logger()


class Look(NamedTuple):
    """What a look into the database has found."""

    blocks: Sequence[Block]
    """The blocks from the known head on."""
    head: int
    """The offset behind them, and behind damage."""
    stop: int
    """The offset behind the last event in the database."""
    is_open: bool
    """Whether the newest segment takes blocks under the server's timeline."""


class PostgresLog(PostgresAppender):
    """The log of one partition. Use it from one event loop."""

    def __init__(self, database: Database, partition: int, limits: JournalLimits, memory: int) -> None:
        """Open the log. Blocking. `memory`: bytes of recent events in memory. Raises Unavailable."""
        super().__init__(database, partition, limits)
        self._writer.may_remove = True
        self._reading, self._rewriting = Lasting(database), Lasting(database, REWRITE_S)
        self._stored = StoredEvents(self._catalogue, self._lost)
        self._tail, self._waiting = Tail(memory), Subscribers()
        self._readers: set[PostgresReader] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pause_s = SHORTEST_LOOK_S
        self._known_at = 0.0
        """When an own append has shown last that nobody else has appended, by the event loop's clock."""
        self._is_looking = self._is_blind = False
        self._mending: Future[None] | None = None
        """The mending of the log's end that a look has found necessary."""
        opened = self._writer.open()
        self.identity = opened.identity
        """The id of the log. A copy of the log has the same id."""
        self.head = opened.head
        """The offset of the next event. Everything below is durable."""
        self._reads = ThreadPoolExecutor(1, f"log reader {partition}")

    @property
    def oldest(self) -> int:
        """The oldest offset that may be readable."""
        segments = self._catalogue.segments
        return min(segments[0].base, self.head) if segments else self.head

    @property
    def trimmed(self) -> int:
        """The offset below which events have left the log for age or room. Gaps above it are damage."""
        return self.oldest

    @property
    def size(self) -> int:
        """Bytes that the tables of the log take."""
        return self._catalogue.size

    @property
    def capacity(self) -> int:
        """Bytes that the log may take."""
        return self._writer.limits.max_size

    @property
    def stored(self) -> int:
        """Bytes that the events appended here took of `capacity`."""
        return self._writer.stored

    @property
    def lost(self) -> int:
        """Unreadable events since the start."""
        return self._lost.events

    @property
    def unsaved_damage(self) -> Sequence[Damage]:
        """Damage that is not saved yet. `drop_saved_damage` removes the saved entries."""
        return tuple(self._lost.unsaved)

    def drop_saved_damage(self, number: int) -> None:
        """Drop the first `number` entries of `unsaved_damage`, which are saved now."""
        self._lost.drop_saved(number)

    def set_fillers(self, fillers: Callable[[], str]) -> None:
        """Do nothing: what fills the server's disk is not known here."""

    def set_limits(self, limits: JournalLimits, memory: int = 0) -> None:
        """Use other limits from the next commit on. `memory`: bytes of recent events in memory."""
        super().set_limits(limits)
        self._tail.max_bytes = memory

    def _show(self, block: Block) -> None:
        """Publish a block of this process, unless the blocks of others before it are not known yet."""
        if block.offsets[0] == self.head:
            self._known_at = asyncio.get_running_loop().time()
            self._extend(block)
        elif block.offsets[0] > self.head:
            self._pause_s = SHORTEST_LOOK_S
            self._look_soon(0.0)

    def _extend(self, block: Block) -> None:
        """Publish the next block."""
        self.head = block.offsets[-1] + 1
        self._tail.add(block)
        super()._show(block)
        self._waiting.notify(block)

    def _look_soon(self, pause_s: float) -> None:
        """Look into the database after a pause, if no look is under way."""
        if self._is_looking or self._is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._start_look)

    def _start_look(self) -> None:
        """Look, unless an own append has just told as much, or is about to tell."""
        self._timer, loop = None, asyncio.get_running_loop()
        if (rest_s := self._known_at + self._pause_s - loop.time()) > 0:
            self._look_soon(rest_s)
            return
        if self.is_committing and self._pause_s < LONGEST_LOOK_S:
            self._look_soon(self._lengthen_pause())
            return
        self._is_looking = True
        look = loop.run_in_executor(self._reads, self._look, self.head)
        look.add_done_callback(self._finish_look)

    def _look(self, head: int) -> Look:
        """Read what there is from the known head on. Raises Unavailable."""
        look = self._read_on(head)
        if look.stop < head:
            self._reading.close()  # this server may have been the primary before
            look = self._read_on(head)
        return look

    def _read_on(self, head: int) -> Look:
        blocks, size = list[Block](), 0
        with self._reading.use() as db:
            end = find_log_end(db, self._catalogue.partition)
            stop = end.stop if end is not None else 0
            if end is not None and end.newest != self._catalogue.newest:
                self._catalogue.refresh(db)
            while head < stop and size < LOOK_BYTES:
                found, head = self._stored.read(db, head, stop)
                blocks += found
                size += sum(len(block.body) for block in found)
        if end is not None:
            self._writer.time.note(end.now_us)
        return Look(blocks, head, stop, is_open=end is not None and end.is_open)

    def _finish_look(self, done: asyncio.Future[Look]) -> None:
        self._is_looking = False
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._note_look(done.result())
        else:
            if not self._is_blind and not is_logged(error):
                log.error("the log cannot be read", error=str(error))
                self._is_blind = True
            self._pause_s = LONGEST_LOOK_S
        self._look_soon(self._pause_s)

    def _note_look(self, look: Look) -> None:
        """Publish what a look has found."""
        if self._is_blind:
            log.info("the log can be read again")
        self._is_blind = False
        before = self.head
        if (look.stop < look.head or not look.is_open) and (self._mending is None or self._mending.done()):
            self._mending = self._thread.submit(self._writer.mend_end)  # if it fails, the next look tries again
        for block in look.blocks:
            if block.offsets[0] > self.head:
                self._jump(block.offsets[0])
            if block.offsets[0] == self.head:
                self._extend(block)
        if look.head > self.head:
            self._jump(look.head)
        has_news = self.head > before
        if has_news:
            self._pause_s = SHORTEST_LOOK_S
        else:
            self._lengthen_pause()
        self._writer.note_end(self.head)

    def _lengthen_pause(self) -> float:
        self._pause_s = min(LONGEST_LOOK_S, self._pause_s * SLOWER)
        return self._pause_s

    def _jump(self, head: int) -> None:
        """Move the head over what cannot be read."""
        before, self.head = self.head, head
        self._tail.clear()
        self._waiting.notify_jump(before, head)

    async def _read_stored(self, offset: int) -> tuple[list[Block], int]:
        """Read stored blocks below the head in the thread of reads. Raises Unavailable."""
        return await self._read(self._read_below, offset, self.head)

    def _read_below(self, offset: int, head: int) -> tuple[list[Block], int]:
        with self._reading.use() as db:
            return self._stored.read(db, offset, head)

    async def _read(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await work_in(self._reads, work, *arguments)

    def open_reader(self, wants: Wants = lambda _: True) -> PostgresReader:
        """Open a reader with a position of its own, at the head. Close it when done.

        A reader hears late of events whose types it does not want.
        """
        self._follow()
        return PostgresReader(lambda: self.head, self._read_stored, self._tail, self._readers, self._waiting, wants)

    def withhold(self, wanted: Wanted | None) -> None:
        """Let readers find these users' events erased from now on, as after `erase`. None: nobody's."""
        self._tail.withheld = wanted

    def _follow(self) -> None:
        """Begin to look for what other processes append. The log may have been opened in another thread."""
        if self._timer is None:
            self._look_soon(self._pause_s)

    async def find_offset(self, received: float) -> int:
        """Find the offset of the first event received at this Unix time or later; the head without any. Raises
        Unavailable."""
        return min(self.head, await self._read(self._find_offset, round(received * 1e6), self.head))

    def _find_offset(self, received_us: int, head: int) -> int:
        with self._reading.use() as db:
            for segment in self._catalogue.segments:
                if segment.stop is None or segment.received_us >= received_us:
                    found = find_base(db, segment.name, received_us)
                    if found is not None:
                        return found
        return head

    async def find_received(self, offset: int) -> float | None:
        """Find when the event at this offset, or the next event left, was received, in Unix seconds; None if
        unknown."""
        if offset >= self.head:
            return None
        if (received := self._tail.find_received(offset)) is not None:
            return received
        try:
            return await self._read(self._find_received, offset)
        except Unavailable:
            return None

    def _find_received(self, offset: int) -> float | None:
        with self._reading.use() as db:
            for segment in self._catalogue.segments:
                if segment.stop is None or segment.stop > offset:
                    found = find_received(db, segment.name, offset)
                    if found is not None:
                        return found / 1e6
        return None

    async def keep(self, needed: int, replay_floor: int | None = None) -> None:
        """Keep the events from `needed` on. Older events may leave the log; those from `replay_floor` on only to make
        room."""
        self._follow()
        self._commits.check_fence()
        self._writer.keep, self._writer.replay_floor = needed, needed if replay_floor is None else replay_floor
        await self._work(self._writer.remove_expired)
        places = [reader.offset for reader in self._readers if reader.offset >= (self._tail.start or 0)]
        self._tail.drop(min(places, default=self.head))

    def measure_needed(self, offset: int) -> int:
        """Return the bytes that the events from this offset on take."""
        return sum(one.size for one in self._catalogue.segments if one.stop is None or one.stop > offset)

    async def check_room(self) -> None:
        """Check whether the next commit will find room; set `refusing` if not. Raises Unavailable."""
        self._commits.note_lack(await self._write(self._writer.find_lack))

    async def await_commit(self) -> None:
        """Wait until the commit under way has ended."""
        with suppress(Unavailable):  # the log is closed
            await self._work(lambda: None)

    async def await_reads(self) -> None:
        """Wait until the present reads have ended."""
        with suppress(Unavailable):  # the log is closed
            await self._read(lambda: None)

    async def find_more_ids(self, wanted: Wanted, head: int) -> dict[int, User]:
        """Find further ids of the users in the events below `head`, by the number of the erasure. Raises
        Unavailable."""
        found: dict[int, User] = {}
        for segment in await self._write(self._writer.seal, head):
            for number, user in (await ADMIN.run(self._work_on, find_ids, segment, wanted) or {}).items():
                found[number] = merge_users(found.get(number, user), user)
        return found

    async def erase(self, wanted: Wanted, head: int) -> AsyncGenerator[ErasedStretch, None]:
        """Erase the users from the segments with events below `head`. Raises Unavailable.

        Yield what a segment holds of the users, and rewrite the segment after that.
        """
        for segment in await self._write(self._writer.seal, head):
            plan = await ADMIN.run(self._work_on, plan_table, segment, wanted)
            if plan is None:
                continue
            yield ErasedStretch(segment.end, plan.found.erased, plan.found.changed, plan.found.before)
            if plan.found.is_empty:
                continue
            self._commits.check_fence()
            await ADMIN.run(self._work_on, rewrite_table, segment, plan, wanted)
            self._tail.clear()
            if plan.unread:
                log.warning("unreadable rows are removed: they may name an erased user", table=segment.name)

    def _work_on(
        self, work: Callable[[PostgresConnection, SegmentTable, *Ts], T], segment: SegmentTable, *arguments: *Ts
    ) -> T | None:
        """Work on a segment; return None if retention has removed the segment. Blocking. Raises Unavailable."""
        with self._rewriting.use() as db:
            try:
                result = work(db, segment, *arguments)
            except psycopg.errors.UndefinedTable:
                result = None
            self._catalogue.refresh(db)
        return result

    async def close(self) -> None:
        """Finish the commits under way, and close the log. Does nothing if it is closed already."""
        if self._is_closed:
            return
        await super().close()
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.close()
        await self._read(self._reading.close)
        await ADMIN.run(self._rewriting.close)
        self._reads.shutdown()
