"""The journal's interface: append a batch, read from an offset, say what is still needed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog

from relay.api import Block, Kind, User
from relay.histogram import Histogram
from relay.journal.duplicates import RecentIds
from relay.journal.failure import convert_disk_errors, make_unavailable
from relay.journal.identity import KnownJournal
from relay.journal.live.group_appender import GroupAppender
from relay.journal.live.group_commit import Group
from relay.journal.live.subscribers import Subscribers
from relay.journal.live.tail import Tail
from relay.journal.reader import Reader
from relay.journal.rewrite import find_more_ids, plan_rewrite, remove_copies, rewrite
from relay.journal.seek import find_offset_at, find_received_at
from relay.journal.segment import Corrupt, Segment
from relay.journal.writer import Writer
from relay.store import (
    Clock,
    Damage,
    ErasedStretch,
    EventIds,
    JournalLimits,
    Unavailable,
    Wanted,
    Wants,
    merge_users,
)
from relay.threads import ADMIN, JOURNAL_READS

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = structlog.stdlib.get_logger()

REPAIR_ADVICE: Final = "erasures need a whole journal: stop relay, relay journal repair, start relay"


class Journal(GroupAppender[Block]):
    """The durable log of one state folder. Use it from the event loop that opened it."""

    def __init__(
        self,
        folder: Path,
        limits: JournalLimits,
        memory: int,
        known: KnownJournal | None = None,
        clock: Clock | None = None,
        seen: Path | None = None,
    ) -> None:
        """Open the journal. Blocking. `known`: what the database knows of it. `clock`: by which data expires. `seen`:
        the folder for the ids of recent events; without it a folder beside the journal's.

        Raises OSError, and identity.OtherJournal if the journal is not the database's.
        """
        self._writer = Writer(folder, limits, known, clock)
        super().__init__(limits, "journal-writer")
        self._tail = Tail(memory)
        self._writer.remembered = self._tail.list_blocks
        self._recent_ids = RecentIds(seen or folder.with_name("seen"), self.clock.read_steady)
        self._waiting = Subscribers()
        self._readers: set[Reader] = set()
        self.head = self._writer.head
        """The offset of the next event. Everything below is on disk."""

    @property
    def identity(self) -> str:
        """Its id. A copy of the journal has the same id."""
        return self._writer.identity

    @property
    def problem(self) -> str:
        """Damage to acknowledged events, or their loss, at the start; "" without any."""
        return self._writer.problem

    @property
    def hole(self) -> Damage | None:
        """The offsets between the last segment and the head at the start: events are lost there; None without any."""
        return self._writer.hole

    @property
    def run(self) -> int:
        """The number of this start with the journal."""
        return self._writer.run

    def fill_hole(self) -> None:
        """Fill the hole, once the database knows of it. Blocking."""
        self._writer.fill_hole()

    @property
    def stopped(self) -> int | None:
        """The head with which the journal was closed before this start; None if it was not closed."""
        return self._writer.stopped

    @property
    def newest(self) -> float | None:
        """The time of the last event at the start, in Unix seconds; None without any."""
        return self._writer.newest

    @property
    def clock(self) -> Clock:
        """The clock by which data expires."""
        return self._writer.clock

    @property
    def lost(self) -> int:
        """Unreadable events since the start: damaged, or removed by somebody."""
        return self._writer.lost.events

    @property
    def unsaved_damage(self) -> Sequence[Damage]:
        """Damage that is not in the database yet. `drop_saved_damage` removes the saved entries."""
        return tuple(self._writer.lost.unsaved)

    def drop_saved_damage(self, number: int) -> None:
        """Drop the first `number` entries of `unsaved_damage`, which are in the database now."""
        self._writer.lost.drop_saved(number)

    @property
    def oldest(self) -> int:
        """The oldest readable offset."""
        segments = self._writer.segments
        return segments[0].base if segments else self.head

    @property
    def trimmed(self) -> int:
        """The offset below which events have left the journal for age or room. Gaps above it are damage."""
        return self._writer.trimmed

    @property
    def size(self) -> int:
        """Bytes of the journal on disk."""
        return self._writer.size

    @property
    def syncs(self) -> Histogram:
        """Seconds per fdatasync of a commit."""
        return self._writer.syncs

    @property
    def stored(self) -> int:
        """Bytes on disk that the events since the start took."""
        return self._writer.stored

    @property
    def capacity(self) -> int:
        """Bytes that the journal may take: `max_size`, or less if the file system has less beyond `min_free`."""
        return int(max(1, min(self._writer.limits.max_size, self._writer.size + self._writer.room)))

    def measure_needed(self, offset: int) -> int:
        """Return the bytes on disk of the events from this offset on."""
        return sum(segment.size for segment in self._writer.segments if segment.end > offset)

    @asynccontextmanager
    async def append_new(
        self, kinds: Sequence[Kind], bodies: Sequence[Any], by: EventIds
    ) -> AsyncIterator[Sequence[int]]:
        """Put the events on disk that are no duplicates; yield their places after the sync. Raises Unavailable,
        TooLarge.

        Their ids are noted when the block has ended without an exception."""
        async with self._recent_ids.find_source(by.source, by.window).leave_out(by.ids, by.subject) as fresh:
            if len(fresh) < len(by.ids):
                kinds, bodies = [kinds[place] for place in fresh], [bodies[place] for place in fresh]
            if fresh:
                await self.append(kinds, bodies)
            yield fresh

    async def forget_ids(self, but: Collection[str]) -> None:
        """Forget the ids of all sources but these."""
        await self._recent_ids.forget(but)

    def _write_group(self, group: Group) -> Block:
        return self._writer.write(group.kinds, group.bodies)

    def _publish(self, group: Group, block: Block) -> None:
        self.head = block.offsets[-1] + 1
        self.bytes += len(block.body)
        self._tail.add(block)
        for tap in self.taps:
            tap(block)
        group.set_done(block.offsets[0])
        self._waiting.notify(block)

    async def _work(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        with convert_disk_errors():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def find_offset(self, received: float) -> int:
        """Find the offset of the first event received at this Unix time or later; the head without any. Raises
        Unavailable."""
        with convert_disk_errors():
            return await JOURNAL_READS.run(find_offset_at, self._writer.segments, self.head, received)

    async def find_received(self, offset: int) -> float | None:
        """Find when the event at this offset, or the next event left, was received, in Unix seconds; None if unknown.

        Reads a segment in a thread for older events.
        """
        if offset >= self.head:
            return None
        if (received := self._tail.find_received(offset)) is not None:
            return received
        try:
            return await JOURNAL_READS.run(find_received_at, self._writer.segments, self.head, offset)
        except (OSError, Corrupt):
            return None

    def open_reader(self, wants: Wants = lambda _: True) -> "Reader":
        """Open a reader with a position of its own. Close it when done.

        A reader hears late of events whose types it does not want.
        """
        return Reader(lambda: self.head, self._writer, self._tail, self._readers, self._waiting, wants)

    def withhold(self, wanted: Wanted | None) -> None:
        """Let readers find these users' events erased from now on, as after `erase`. None: nobody's."""
        self._tail.withheld = wanted

    async def keep(self, needed: int, replay_floor: int | None = None) -> None:
        """Keep the events from `needed` on. Retention may remove older events; those from `replay_floor` on only to
        make room."""
        self._writer.keep, self._writer.replay_floor = needed, needed if replay_floor is None else replay_floor
        await self._write(self._writer.remove_expired)
        places = [reader.offset for reader in self._readers if reader.offset >= (self._tail.start or 0)]
        self._tail.drop(min(places, default=self.head))

    async def await_commit(self) -> None:
        """Wait until the writer has ended what it does now: for ever, if the disk hangs."""
        await self._work(lambda: None)

    def set_fillers(self, fillers: Callable[[], str]) -> None:
        """Set the function that says what fills the disk. The writer's thread calls it when the disk is full."""
        self._writer.fillers = fillers

    async def check_room(self) -> None:
        """Check whether the next commit will find room, and refuse senders before they send if not. Raises
        Unavailable."""
        self._commits.note_lack(await self._write(self._writer.find_lack))

    async def await_reads(self) -> None:
        """Wait until the present reads from disk have ended: for ever, if the disk hangs."""
        if under_way := [reader.reading for reader in self._readers if reader.reading is not None]:
            await asyncio.wait(under_way)

    async def find_more_ids(self, wanted: Wanted, head: int) -> dict[int, User]:
        """Find further ids of the users in the events below `head`, by the number of the erasure. Raises
        Unavailable."""
        found: dict[int, User] = {}
        for segment in await self._write(self._writer.seal, head):
            for number, user in (await self._work_on(find_more_ids, segment, wanted) or {}).items():
                found[number] = merge_users(found.get(number, user), user)
        return found

    async def erase(self, wanted: Wanted, head: int) -> AsyncGenerator[ErasedStretch, None]:
        """Erase the users from the segments with events below `head`, and the kept copies that name them. Raises
        Unavailable.

        Yield what a segment holds of the users, and rewrite the segment after that."""
        for segment in await self._write(self._writer.seal, head):
            plan = await self._work_on(plan_rewrite, segment, wanted)
            if plan is None:
                continue
            yield ErasedStretch(segment.end, plan.erased, plan.changed, plan.before)
            if not plan.is_empty and (fresh := await self._work_on(rewrite, segment, wanted)) is not None:
                await self._replace(segment, fresh)
        with convert_disk_errors():
            removed = await ADMIN.run(remove_copies, self._writer.folder, wanted)
        for path in removed:
            log.warning("a damaged segment that was kept is removed: it may name an erased user", file=path.name)

    async def _work_on(self, work: Callable[[Segment, Wanted], T], segment: Segment, wanted: Wanted) -> T | None:
        """Work on a segment in a thread; return None if retention has removed the segment. Raises Unavailable."""
        try:
            return await ADMIN.run(work, segment, wanted)
        except Corrupt as error:
            raise Unavailable(f"{error}; {REPAIR_ADVICE}", "damaged") from error
        except OSError as error:
            if isinstance(error, FileNotFoundError) and segment.base < self.oldest:
                return None
            raise make_unavailable(error) from error

    async def _replace(self, segment: Segment, fresh: Path) -> None:
        """Replace a segment by its rewritten file. Raises Unavailable.

        Later reads use the new file. Readers have to forget what they have in memory.
        """
        await self._write(self._writer.replace, segment, fresh)
        self._tail.clear()
        for reader in [*self._readers]:
            await JOURNAL_READS.run(reader.release_file)

    def set_limits(self, limits: JournalLimits, memory: int) -> None:
        """Use other limits from the next commit on."""
        self._writer.limits, self._tail.max_bytes = limits, memory
        self._commits.set_limits(limits)

    async def close(self) -> None:
        """Finish the commits under way and seal the journal, unless another relay writes."""
        await self._finish_commits()
        self._waiting.close()
        if not self._commits.fenced:
            await self._work(self._writer.close)
        await self._recent_ids.close()
        self._thread.shutdown()
