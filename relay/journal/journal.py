"""The journal as the rest of relay sees it: append a batch, read from an offset, say what is still needed.

All that arrives while one commit is under way forms the next group: one record, one sync.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from relay.api import Block, Kind
from relay.histogram import Histogram
from relay.journal.clock import Clock
from relay.journal.damage import Damage
from relay.journal.identity import KnownJournal
from relay.journal.reader import Reader
from relay.journal.record import PER_EVENT, size_of
from relay.journal.retention import JournalLimits
from relay.journal.seek import offset_at, received_at
from relay.journal.segment import Corrupt, Segment
from relay.journal.subscribers import Waiting, Wants
from relay.journal.tail import Tail
from relay.journal.writer import Writer
from relay.threads import JOURNAL_READS

log = structlog.stdlib.get_logger()

GROUP_BYTES: Final = 8 << 20
"""A group takes no more bytes than these, unless they are of one batch; the next one begins."""
REFUSING_S: Final = 30.0
"""Seconds after a failed commit until senders may find out whether the next one works."""


class Unavailable(Exception):
    """The journal cannot take events now: it is full, or the disk refuses. Nothing of the batch counts."""


class TooLarge(Exception):
    """The journal can never take so many bytes at once, however much room there is."""


@dataclass(slots=True, eq=False)
class Group:
    """What is committed together."""

    kinds: list[Kind] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    size: int = 0
    waiting: list[tuple[int, asyncio.Future[int]]] = field(default_factory=list)
    """Who waits, and for which of the group's events."""

    def done(self, offset: int) -> None:
        """Tell all who wait that the group is on disk, from this offset on."""
        for place, future in self.waiting:
            if not future.done():
                future.set_result(offset + place)

    def failed(self, error: Exception) -> None:
        """Tell all who wait that nothing of the group counts."""
        for _, future in self.waiting:
            if not future.done():
                future.set_exception(error)


class Journal:
    """The durable log of one state folder. Use it from the event loop that opened it."""

    def __init__(self, folder: Path, limits: JournalLimits, memory: int, known: KnownJournal | None = None) -> None:
        """Open the journal. Blocking. `known`: what the database knows of it.

        Raises OSError, identity.OtherJournal (it is not the database's)."""
        self._writer = Writer(folder, limits, known)
        self._bound(limits)
        self._thread = ThreadPoolExecutor(1, "journal-writer")
        self._tail = Tail(memory)
        self._writer.remembered = self._tail.held
        self._groups: deque[Group] = deque()
        self._committing = False
        self._waiting = Waiting()
        self._readers: set[Reader] = set()
        self._refused: tuple[str, float] | None = None
        self._lacks_room = False
        """Whether the last look for room found none."""
        self.head = self._writer.head
        """The offset that the next event gets; everything below is on disk."""
        self.bytes = 0
        """Of the events that were put on disk since the start."""
        self.failed = 0
        """Commits that failed since the start."""
        self.taps: set[Callable[[Block], object]] = set()
        """Called with each block once it is on disk; they must be quick."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._writer.folder

    @property
    def identity(self) -> str:
        """Its id, which a copy of it shares."""
        return self._writer.identity

    @property
    def problem(self) -> str:
        """What of the acknowledged events was damaged or missing at the start; "": nothing."""
        return self._writer.problem

    @property
    def stopped(self) -> int | None:
        """The head with which it was closed before this start; None if it was not closed."""
        return self._writer.stopped

    @property
    def newest(self) -> float | None:
        """When the last event that was there at the start was received, in Unix seconds; None: there was none."""
        return self._writer.newest

    @property
    def clock(self) -> Clock:
        """The time by which things are removed."""
        return self._writer.clock

    @property
    def lost(self) -> int:
        """Events that could not be read since the start: they are damaged, or somebody has removed them."""
        return self._writer.lost.events

    @property
    def unsaved_damage(self) -> Sequence[Damage]:
        """Those of them that the database does not know yet; tell of what it knows by `saved_damage`."""
        return tuple(self._writer.lost.unsaved)

    def saved_damage(self, number: int) -> None:
        """So many of those are in the database."""
        self._writer.lost.saved(number)

    @property
    def oldest(self) -> int:
        """The oldest offset that can still be read."""
        segments = self._writer.segments
        return segments[0].base if segments else self.head

    @property
    def trimmed(self) -> int:
        """Events below this offset have left the journal for their age or for room; what is missing from there on is
        damaged, or somebody has removed it."""
        return self._writer.trimmed

    @property
    def size(self) -> int:
        """Bytes that the journal takes on disk."""
        return self._writer.size

    @property
    def refusing(self) -> str | None:
        """Why the last commit failed; None if it did not.

        After REFUSING_S it is None, too: if nobody sent because we are not ready, we would never be ready again.
        """
        if self._refused is None or time.monotonic() > self._refused[1] + REFUSING_S:
            return None
        return self._refused[0]

    @property
    def failing(self) -> bool:
        """Whether the last commit failed, however long ago."""
        return self._refused is not None

    @property
    def syncs(self) -> Histogram:
        """Seconds that each commit's fdatasync took."""
        return self._writer.syncs

    @property
    def capacity(self) -> int:
        """Bytes that the journal may take: `max_size`, and of the file system all but `min_free`."""
        return int(max(1, min(self._writer.limits.max_size, self._writer.size + self._writer.room)))

    def needed(self, offset: int) -> int:
        """Bytes on disk that hold the events from this offset on."""
        return sum(segment.size for segment in self._writer.segments if segment.end > offset)

    def fill(self, offset: int) -> float:
        """Which part of its capacity the events from this offset on take up: at 1 it is full."""
        return self.needed(offset) / self.capacity

    async def append(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """Put events on disk; return the offset of the first one once they are synced. Raises Unavailable, TooLarge."""
        size = self.check_size(kinds, bodies)
        group = self._group(size)
        future = asyncio.get_running_loop().create_future()
        group.waiting.append((len(group.bodies), future))
        group.kinds += kinds
        group.bodies += bodies
        group.size += size
        if not self._committing:
            self._commit()
        offset: int = await future
        return offset

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """About how many bytes these events take on disk, without the table of their types, which are in the bodies as
        well. Raises TooLarge if they never fit in."""
        size, most = sum(map(len, bodies)) + PER_EVENT * len(bodies), self._largest
        if size > self._worth_a_look and size_of(kinds, bodies) > most:
            raise TooLarge(f"the events take more than {most:,} bytes, half of journal.max_size: send fewer at a time")
        return size

    def _group(self, size: int) -> Group:
        """The group that takes so many bytes more."""
        if not self._groups or self._groups[-1].size + size > self._group_bytes:
            self._groups.append(Group())
        return self._groups[-1]

    def _commit(self) -> None:
        group = self._groups.popleft()
        self._committing = True
        loop = asyncio.get_running_loop()
        written = loop.run_in_executor(self._thread, self._writer.write, group.kinds, group.bodies)
        written.add_done_callback(lambda future: self._committed(group, future))

    def _committed(self, group: Group, written: asyncio.Future[Block]) -> None:
        self._committing = False
        error = written.exception()
        if error is None:
            self._accepted(group, written.result())
        else:
            reason = _in_words(error)
            self._refused = reason, time.monotonic()
            self.failed += 1
            group.failed(Unavailable(reason))
            if not isinstance(error, OSError):
                log.error("commit failed by a bug", exc_info=error)
        if self._groups:
            self._commit()

    def _accepted(self, group: Group, block: Block) -> None:
        self.head = block.offsets[-1] + 1
        if self._refused:
            log.info("the journal takes events again")
            self._refused, self._lacks_room = None, False
        self.bytes += len(block.body)
        self._tail.add(block)
        for tap in self.taps:
            tap(block)
        group.done(block.offsets[0])
        self._waiting.grown(block)

    async def offset_of(self, start: str | float) -> int:
        """The offset that "now", "oldest" or a Unix time stands for."""
        if isinstance(start, float):
            return await JOURNAL_READS.run(offset_at, self._writer.segments, self.head, start)
        return self.oldest if start == "oldest" else self.head

    async def received_at(self, offset: int) -> float | None:
        """When the event at this offset, or the next one that is still there, was received, in Unix seconds; None if
        that cannot be told. Of an older event it reads a segment, in a thread."""
        if offset >= self.head:
            return None
        if (received := self._tail.received(offset)) is not None:
            return received
        try:
            return await JOURNAL_READS.run(received_at, self._writer.segments, self.head, offset)
        except (OSError, Corrupt):
            return None

    def reader(self, wants: Wants = lambda _: True) -> "Reader":
        """A reader with a place of its own, which need not hear at once of events of other types than it wants; close
        it when done."""
        return Reader(lambda: self.head, self._writer, self._tail, self._readers, self._waiting, wants)

    async def keep(self, offset: int, liked: int | None = None) -> None:
        """Events from this offset on are still needed; those before may go when retention says so, from `liked` on only
        to make room."""
        self._writer.keep, self._writer.liked = offset, offset if liked is None else liked
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.tidy)
        places = [reader.offset for reader in self._readers if reader.offset >= (self._tail.start or 0)]
        self._tail.drop(min(places, default=self.head))

    async def answers(self) -> None:
        """Return once the writer is through with what it is at: never, if the disk hangs."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def tell_fillers(self, fillers: Callable[[], str]) -> None:
        """When the disk is full, say with this what takes its room; it is called by the writer's thread."""
        self._writer.fillers = fillers

    async def look_for_room(self) -> None:
        """See whether the next commit would find room, and refuse senders if not, before they send."""
        lacking = await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.lacking)
        if lacking:
            if not self._lacks_room:
                log.error("the journal takes no events", reason=lacking)
            self._refused = lacking, time.monotonic()
        elif self._lacks_room:
            log.info("the journal has room again")
            self._refused = None
        self._lacks_room = bool(lacking)

    async def reads_end(self) -> None:
        """Return once the reads from disk that are under way have ended: never, if the disk hangs."""
        if under_way := [reader.reading for reader in self._readers if reader.reading is not None]:
            await asyncio.wait(under_way)

    async def roll(self) -> Sequence[Segment]:
        """The segments that hold all events up to now; none of them is written to any more. Raises OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.roll)

    async def replace(self, segment: Segment, fresh: Path) -> None:
        """Have a segment that was written anew take the old one's place. Whoever reads on from now on reads it; what
        was read before is for the readers to forget. Raises OSError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.replace, segment, fresh)
        self._tail.clear()
        for reader in [*self._readers]:
            await JOURNAL_READS.run(reader.let_go)

    def limit(self, limits: JournalLimits, memory: int) -> None:
        """Keep to other limits from the next commit on."""
        self._writer.limits, self._tail.max_bytes = limits, memory
        self._bound(limits)

    def _bound(self, limits: JournalLimits) -> None:
        """Work out, once and not per request, how much goes at a time."""
        self._largest = limits.largest_record
        self._worth_a_look = self._largest // 4
        """What is smaller fits in, whatever its types."""
        self._group_bytes = min(GROUP_BYTES, self._largest // 4)

    async def close(self) -> None:
        """Finish the commits under way and seal the journal."""
        while self._groups or self._committing:
            await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)
        self._waiting.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._thread.shutdown()


def _in_words(error: BaseException) -> str:
    """Without the number of the error, which says nothing to the person who reads it."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return error.strerror + (f": {error.filename}" if error.filename else "")
