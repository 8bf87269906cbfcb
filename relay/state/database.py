"""What is small and queryable: cursors with their ledger, and parked events. SQLite, open to every admin's tools.

Every method is one transaction, synced before it returns (WAL, synchronous=FULL), on a thread of its own. A cursor and
its counts are one row, so they cannot disagree. A crash loses at most the cursors since the last save: what they had
settled is delivered once more.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, TypeVarTuple

from relay.journal import Clock, Damage, KnownJournal, lock
from relay.state.attempts import Attempts, forget_attempts, save_attempts
from relay.state.cursor import Cursor, cursor_rows, load_cursor, save_cursors
from relay.state.damage import save_damage
from relay.state.database_file import LOCKED_S, give_back, open_in_steps, reserve_log
from relay.state.journal_state import adopt_journal, read_known_journal, save_head
from relay.state.layout import DATABASE
from relay.state.ledger import SourceLedger, read_memories, read_sources, save_memory, save_sources
from relay.state.migrations import make_tables
from relay.state.parked import (
    Parked,
    Reason,
    RemovedParked,
    add_parked,
    delete_delivered,
    delete_parked,
    read_keys,
    read_marked,
    read_places,
    read_ranges,
    size_of,
)
from relay.state.parked_limits import ParkedLimits, Removals, make_room, remove_some
from relay.state.pauses import Pause, read_pauses
from relay.state.replays import Replay, read_replays, save_replays

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class State:
    """The state database of one state folder."""

    def __init__(self, folder: Path, worker: int = 0) -> None:
        """Open the database of the worker with this number. Blocking.

        Raises OSError (another relay has the folder), sqlite3.Error."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.worker = folder, worker
        self._lock = lock(folder)
        (folder / DATABASE).touch(mode=0o600)  # parked events are personal data
        self._db = sqlite3.connect(folder / DATABASE, check_same_thread=False, isolation_level=None, timeout=LOCKED_S)
        open_in_steps(self._db)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        make_tables(self._db, worker)
        reserve_log(folder / DATABASE)
        self.clock = Clock()
        """The time by which things are removed."""
        self.known = read_known_journal(self._db)
        """What it knew of its journal when it was opened; None: it had never heard of one."""
        self.now: int | None = None
        """Where a connector begins that begins "now" and has no cursor: at the first event that this database has not
        heard of, which may have been for that connector, also later on while the database is in doubt. None: at the
        journal's head."""
        self.refusing: str | None = None
        """Why the last transaction failed; None: it succeeded."""
        self._thread = ThreadPoolExecutor(1, "state")
        self._began: float | None = None
        self._is_locked = False
        self._moved = asyncio.Event()
        self.parked_limits = ParkedLimits()
        self.removals: dict[Reason, Removals] = {}
        """Parked events that were removed, until somebody has told of them."""
        self._removed = 0

    def meet(self, known: KnownJournal, doubt: str) -> None:
        """From now on it belongs to this journal. Blocking. Raises sqlite3.Error."""
        self._transaction(lambda db: adopt_journal(db, known, doubt))

    async def heed_accepted(self) -> None:
        """Go by what an admin has accepted meanwhile, of the clock and of the journal. Raises sqlite3.Error."""
        if known := await self.look(read_known_journal):
            self.clock.accept(known.time, known.accepted)
            self.now = known.unheard

    async def cursor(self, connector: str) -> Cursor | None:
        """The saved cursor of a connector; None if it never ran."""
        return await self.run(lambda db: load_cursor(db, connector))

    async def save(
        self,
        cursors: Mapping[str, Cursor],
        head: int,
        delivered_again: Sequence[Parked] = (),
        replays: Mapping[int, Cursor] = MappingProxyType({}),
        attempts: Sequence[Attempts] = (),
        damage: Sequence[Damage] = (),
    ) -> None:
        """Save cursors with their counts, let go of the parked events that those now count otherwise, and note what
        attempts came to and what could not be read, all or none. A parked event stays if it has failed since it was
        looked up (`marked`).

        `head`: that of the journal. How late it is, is saved as well."""
        trusted = self.clock.now()
        rows = cursor_rows(cursors, head)

        def write(db: sqlite3.Connection) -> None:
            save_cursors(db, rows)
            delete_delivered(db, delivered_again)
            save_replays(db, replays)
            save_attempts(db, attempts)
            save_damage(db, damage)
            save_head(db, head, trusted, self.clock.ahead)

        await self.run(write)

    async def replays(self) -> list[Replay]:
        """The replays that are under way or wait, the last one first."""
        return await self.run(lambda db: read_replays(db, "ended IS NULL AND cancelled IS NULL"))

    async def pauses(self) -> dict[str, Pause]:
        """The connectors that an admin has paused."""
        return await self.run(read_pauses)

    async def forget_attempts(self, oldest: int) -> None:
        """Let go of what was noted of events that have left the journal, whose oldest offset is given."""
        await self.run(lambda db: forget_attempts(db, oldest))

    async def park(self, parked: Sequence[Parked]) -> list[int]:
        """Put events aside, those that were tried since `first`; return their numbers. One that lies there already
        keeps its number; its attempts add up. Others may have to go for them, see `parked_limits`.

        Raises NoRoom, sqlite3.Error. When this is cancelled before it is done, nothing is parked."""
        now, made, is_wanted = time.time(), 0, True
        numbers: list[int] = []
        size = sum(size_of(one.reason, one.answer, one.key, one.body) for one in parked)

        def write(db: sqlite3.Connection) -> list[RemovedParked]:
            if gone := make_room(db, self.folder, self.parked_limits, size, made=made):
                return gone
            numbers.extend(add_parked(db, one, now) for one in parked)
            if not is_wanted:
                raise sqlite3.OperationalError("nobody waits for this any more")
            return []

        try:
            while gone := await self.run(write):
                made += self._note_removed(gone)
        except asyncio.CancelledError:
            is_wanted = False
            raise
        return numbers

    async def take_back(self, numbers: Sequence[int]) -> None:
        """Let go of what was just parked with these numbers."""
        await self.run(lambda db: delete_parked(db, numbers))

    async def marked(
        self, connector: str, events: int, size: int, offsets: Sequence[int] | None = None
    ) -> list[Parked]:
        """Parked events of a connector that are to be delivered again, in the journal's order: as many as have room in
        `size` bytes, but at least one and at most `events`; only at `offsets`, if those are given. Of those with a key
        each one's first: the others, and what was parked only for coming behind it, follow once that is gone."""
        return await self.run(lambda db: read_marked(db, connector, events, size, offsets))

    async def parked_places(self, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
        """What a lane, not a replay, has parked of the events at these offsets: the offset and the part of each."""
        return await self.run(lambda db: read_places(db, connector, offsets))

    async def parked_keys(self, connector: str, but: Sequence[int] = ()) -> set[str]:
        """The keys of a connector's parked events, without those of these numbers."""
        return await self.run(lambda db: read_keys(db, connector, but))

    async def version(self) -> int:
        """A number that changes when another process has written to the database, or parked events were removed."""
        query = self._db.execute
        written = await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: int(query("PRAGMA data_version").fetchone()[0])
        )
        return written + self._removed

    async def parked_in(self, connector: str, ranges: Sequence[tuple[int, int]]) -> list[Parked]:
        """What a lane, not a replay, has parked at the offsets of these ranges, without the bodies."""
        return await self.run(lambda db: read_ranges(db, connector, ranges))

    async def remove_parked(self) -> bool:
        """Remove some of the parked events that are too old or too many (`parked_limits`); False if all may stay.
        Raises sqlite3.Error."""
        limits = self.parked_limits
        gone = await self.run(lambda db: remove_some(db, self.folder, limits, self.clock.now(limits.retention)))
        self._note_removed(gone)
        return bool(gone)

    def _note_removed(self, gone: Sequence[RemovedParked]) -> int:
        """Keep in mind what was removed; return its bytes."""
        for one in gone:
            self.removals.setdefault(one.reason, Removals()).add(one)
        self._removed += len(gone)
        return sum(one.size for one in gone)

    async def shrink(self) -> bool:
        """Have the file be smaller by some of the pages that nothing is in; False if there are few. Raises
        sqlite3.Error."""
        return await self._submit(lambda: next(give_back(self._db), False) is None)

    async def sources(self) -> dict[str, SourceLedger]:
        """What each source counted when it was saved last."""
        return {one.source: one for one in await self.run(read_sources)}

    async def memories(self) -> dict[str, str]:
        """What each source wants to know after a restart."""
        return await self.run(read_memories)

    async def remember(self, source: str, memory: str) -> None:
        """Save what a source wants to know after a restart."""
        await self.run(lambda db: save_memory(db, source, memory))

    def save_sources(self, books: Sequence[SourceLedger]) -> asyncio.Future[object]:
        """Save what sources count. It begins at once; await it only to know how it ends."""
        return self._submit(self._transaction, lambda db: save_sources(db, books))

    async def answers(self) -> None:
        """Return once something that was asked of the database has ended, well or not: never, if the disk hangs.

        If somebody else locks the database, that is an end too: what waits for the lock gives up after LOCKED_S."""
        self._moved.clear()
        self._submit(lambda: None)
        await self._moved.wait()

    async def clean(self) -> bool:
        """Have nothing be left in the files of what was removed from the tables; False if somebody was reading them, so
        that it has to be done again. Raises sqlite3.Error."""
        return await self._submit(self._clean)

    def _clean(self) -> bool:
        self._db.execute("VACUUM")
        (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        reserve_log(self.folder / DATABASE)
        return not busy

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work that is one transaction. Raises sqlite3.Error, and then none of it is done."""
        try:
            result = await self._submit(self._transaction, work)
        except sqlite3.Error as error:
            self.refusing = str(error)
            raise
        self.refusing = None
        return result

    def _submit(self, work: Callable[[*Ts], T], *arguments: *Ts) -> asyncio.Future[T]:
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._work, work, *arguments)
        future.add_done_callback(lambda _: self._moved.set())
        return future

    def _work(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        self._began = time.monotonic()
        try:
            return work(*arguments)
        finally:
            self._began = None

    @property
    def busy_for(self) -> float:
        """Seconds since it began what it is at now, be it waiting for the lock; 0: it is idle."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read without waiting for other processes' transactions. Raises sqlite3.Error."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._db)

    def _begin(self) -> None:
        """Begin to write. The first who finds the lock held waits for it, for LOCKED_S; after that nobody does, until
        somebody has found it free."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY and not self._is_locked:
                self._is_locked = True
                self._db.execute("PRAGMA busy_timeout = 0")
            raise
        if self._is_locked:
            self._is_locked = False
            self._db.execute(f"PRAGMA busy_timeout = {round(1000 * LOCKED_S)}")

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._begin()
        try:
            result = work(self._db)
            if isinstance(result, sqlite3.Cursor):  # it would be let go of in a thread that has no business here
                result.close()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return result

    def close(self) -> None:
        """Finish what is under way and close. Blocking."""
        self._thread.shutdown()
        self._db.close()
        os.close(self._lock)
