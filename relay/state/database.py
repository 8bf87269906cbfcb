"""The state database: cursors with their ledgers, parked events and more. SQLite, open to every admin's tools.

Every method is one transaction on a thread of its own, synced before it returns (WAL, synchronous=FULL). A cursor and
its counts are one row, so they cannot disagree. A crash loses at most the cursors since the last save: events settled
since then are delivered once more.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from msgspec.structs import replace

from relay.api import Connector
from relay.journal import KnownJournal, lock
from relay.state.attempts import forget_attempts, save_attempts
from relay.state.cursor import load_cursor, make_cursor_rows, save_cursors
from relay.state.cuts import CutFile, remove_cuts_of_replays
from relay.state.damage import save_damage
from relay.state.database_file import (
    LOCKED_S,
    convert_errors,
    enable_shrinking,
    overwrite_deleted,
    read_data_version,
    reserve_log,
    shrink_in_steps,
)
from relay.state.erasure.erasures import DatabaseErasures
from relay.state.holder import check_hold, mark_closed, read_last_run, take_hold
from relay.state.journal_state import adopt_journal, read_known_journal, save_head
from relay.state.layout import DATABASE, list_other_folders
from relay.state.ledger import read_lane_ledgers, read_memories, read_sources, save_memory, save_sources
from relay.state.migrations import make_tables
from relay.state.parked import (
    add_parked,
    delete_delivered,
    delete_parked,
    read_keys,
    read_marked,
    read_places,
    read_ranges,
)
from relay.state.parked.limits import make_room, remove_some
from relay.state.pauses import follow_pauses, read_pauses
from relay.state.plugin_store import StoreFile
from relay.state.replays import read_replays, save_replays
from relay.store import (
    Attempts,
    Clock,
    Cursor,
    Damage,
    LaneLedger,
    Parked,
    Pause,
    Replay,
    SourceLedger,
    ThreadedState,
)
from relay.threads import ADMIN

T = TypeVar("T")
SAVE_S: Final = 0.25


class StateDatabase(ThreadedState[sqlite3.Connection]):
    """The state database of one state folder."""

    def __init__(self, folder: Path, worker: int = 0) -> None:
        """Open the database of the worker with this number. Blocking.

        Raises OSError if another relay has the folder, sqlite3.Error.
        """
        super().__init__(convert_errors)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.worker = folder, worker
        path = folder / DATABASE
        with ExitStack() as opened:
            opened.callback(os.close, lock(folder))
            path.touch(mode=0o600)  # parked events are personal data
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=LOCKED_S)
            opened.callback(self._db.close)
            enable_shrinking(self._db)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            make_tables(self._db, worker)
            known = read_known_journal(self._db)
            run, is_closed = read_last_run(self._db)
            self.known = known and replace(known, run=run, is_closed=is_closed)
            """What the database knew of its journal when it was opened; None: nothing."""
            self._opened = opened.pop_all()
        reserve_log(path)
        self.clock = Clock()
        """The clock by which data expires."""
        self._journal = ""
        self._epoch: int | None = None
        """The epoch of this start, once the database has its journal."""
        self.now: int | None = None
        """Where a connector without a cursor begins that begins "now"; None: at the journal's head.

        While it is in doubt whether the database knows all connectors, that is the first event unknown to the database.
        That event may have been for this connector.
        """
        self._is_locked = False
        self.save_s = SAVE_S
        """Seconds between two saves of the cursors, unless a window is full."""
        self.erasures = DatabaseErasures(self)
        """The requested erasures."""

    def adopt_journal(self, known: KnownJournal, doubt: str, damage: Sequence[Damage] = ()) -> None:
        """Bind the database to this journal, with its damage. Blocking. Raises sqlite3.Error."""

        def write(db: sqlite3.Connection) -> None:
            self._epoch = take_hold(db, known.run)
            adopt_journal(db, known, doubt)
            save_damage(db, damage)

        self._run_transaction(write)
        self._journal = known.identity

    async def read_accepted(self) -> None:
        """Read what an admin has accepted meanwhile of the clock and the journal. Raises Unavailable."""
        if known := await self.read(read_known_journal):
            self.clock.accept(known.time, known.accepted)
            self.now = known.unheard

    async def load_cursor(self, connector: str) -> Cursor | None:
        """Return the saved cursor of a connector; None if the connector never ran."""
        return await self.run(lambda db: load_cursor(db, connector))

    async def find_begun(self, connector: str) -> float | None:
        """Return None: all workers learn of a connector at once."""
        return None

    async def save(
        self,
        cursors: Mapping[str, Cursor],
        head: int,
        delivered_again: Sequence[Parked] = (),
        replays: Mapping[int, Cursor] = MappingProxyType({}),
        attempts: Sequence[Attempts] = (),
        damage: Sequence[Damage] = (),
    ) -> None:
        """Save cursors with their counts, attempts and damage, and delete delivered parked events, all or nothing.

        A parked event stays if it has failed since it was read (`read_marked`). `head`: the journal's head; the trusted
        time is saved with it.
        """
        trusted = self.clock.now()
        rows = make_cursor_rows(cursors, head)

        def write(db: sqlite3.Connection) -> None:
            save_cursors(db, rows)
            delete_delivered(db, delivered_again)
            save_replays(db, replays)
            save_attempts(db, attempts)
            save_damage(db, damage)
            save_head(db, head, trusted, self.clock.ahead)

        await self.run(write)

    async def save_end(self, head: int) -> None:
        """Save that the journal was closed with this head."""
        trusted = self.clock.now()

        def write(db: sqlite3.Connection) -> None:
            save_head(db, head, trusted, self.clock.ahead)
            mark_closed(db)

        await self.run(write)

    async def read_replays(self) -> list[Replay]:
        """Return the replays that run or wait, the last one first."""
        return await self.run(lambda db: read_replays(db, "ended IS NULL AND cancelled IS NULL"))

    async def read_pauses(self) -> dict[str, Pause]:
        """Return the pauses by connector."""
        return await self.run(read_pauses)

    async def follow_pauses(self) -> None:
        """Take over the pauses of the first worker in place of those here."""
        first = list_other_folders(self.folder, self.worker)[0]
        await self.run(lambda db: follow_pauses(db, first))

    async def read_lane_ledgers(self) -> list[LaneLedger]:
        """Return the last saved ledger of each lane that ever ran, the one saved last first."""
        with convert_errors():
            return await ADMIN.run(read_lane_ledgers, self.folder)

    def open_cuts(self, connector: str, part: str = "") -> CutFile:
        """Return the saved cuts of a connector, or of another part of its work: a replay's number, or "again"."""
        return CutFile(self.folder, connector, part, self._journal)

    async def remove_cuts_of_replays(self, but: Collection[int]) -> None:
        """Remove the saved cuts of all replays but these."""
        with convert_errors():
            await ADMIN.run(remove_cuts_of_replays, self.folder, but)

    async def forget_attempts(self, oldest: int) -> None:
        """Delete the attempts at events below this offset, which have left the journal."""
        await self.run(lambda db: forget_attempts(db, oldest))

    async def park(self, parked: Sequence[Parked]) -> list[int]:
        """Park events; return their numbers. A parked event keeps its number, and its attempts add up.

        Other parked events may be removed to make room (`parked_limits`). Raises Unavailable. Parks nothing if it is
        cancelled before its end.
        """
        now = time.time()
        return await self._park(
            parked,
            lambda db, size: make_room(db, self.folder, self.parked_limits, size),
            lambda db: [add_parked(db, one, now) for one in parked],
        )

    async def unpark(self, numbers: Sequence[int]) -> None:
        """Delete the events just parked with these numbers."""
        await self.run(lambda db: delete_parked(db, numbers))

    async def read_marked(
        self, connector: str, events: int, size: int, offsets: Sequence[int] | None = None
    ) -> list[Parked]:
        """Return parked events of a connector that are to be delivered again, in the journal's order.

        Return at most `events` that fit into `size` bytes, but at least one; only at `offsets`, if given. Of each key
        only the first event is returned. The others, and events parked only for their order, follow later.
        """
        return await self.run(lambda db: read_marked(db, connector, events, size, offsets))

    async def read_parked_places(self, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
        """Return offset and part of what a lane, not a replay, has parked of the events at these offsets."""
        return await self.run(lambda db: read_places(db, connector, offsets))

    async def read_parked_keys(self, connector: str, but: Sequence[int] = ()) -> set[str]:
        """Return the ordering keys of a connector's parked events, without the events of these numbers."""
        return await self.run(lambda db: read_keys(db, connector, but))

    async def changes(self) -> int:
        """Return a number that is another one when another process has written, or parked events were removed."""
        return await self.read(read_data_version) + self._removed

    async def read_parked_in(self, connector: str, ranges: Sequence[tuple[int, int]]) -> list[Parked]:
        """Return what a lane, not a replay, has parked in these ranges, without the bodies."""
        return await self.run(lambda db: read_ranges(db, connector, ranges))

    async def remove_parked(self) -> bool:
        """Remove some parked events that are too old or too many (`parked_limits`); return whether any was.

        Raises Unavailable.
        """
        limits = self.parked_limits
        gone = await self.run(lambda db: remove_some(db, self.folder, limits, self.clock.now(limits.retention)))
        self._note_removed(gone)
        return bool(gone)

    async def shrink(self) -> bool:
        """Shrink the file by some free pages; return False if few are left. Raises Unavailable."""
        return await self.thread.submit(self._shrink)

    def _shrink(self) -> bool:
        check_hold(self._db, self._epoch)
        return next(shrink_in_steps(self._db), False) is None

    async def read_sources(self) -> dict[str, SourceLedger]:
        """Return the last saved ledger of each source."""
        return {one.source: one for one in await self.run(read_sources)}

    async def read_memories(self) -> dict[str, str]:
        """Return the saved memory of each source."""
        return await self.run(read_memories)

    async def save_memory(self, source: str, memory: str) -> None:
        """Save a source's memory."""
        await self.run(lambda db: save_memory(db, source, memory))

    def save_sources(self, ledgers: Sequence[SourceLedger]) -> asyncio.Future[object]:
        """Save the sources' ledgers. Starts at once; await the result only to learn how it ends."""
        return self.thread.submit(self._run_transaction, lambda db: save_sources(db, ledgers))

    def make_plugin_store(self, connector: Connector) -> StoreFile:
        """Make the store of a connector, in a file of its own. Opens nothing yet."""
        return StoreFile(self.folder, connector.type, connector.name, connector.work_in_threads)

    async def await_taken(self) -> str:
        """Wait until a transaction has failed because another relay has opened the database; return the reason."""
        return await self.thread.await_taken()

    async def vacuum(self) -> bool:
        """Overwrite removed data in the files; return False if a reader prevented it, and it must be repeated.

        Raises Unavailable.
        """
        return await self.thread.submit(self._vacuum)

    def _vacuum(self) -> bool:
        check_hold(self._db, self._epoch)
        is_overwritten = overwrite_deleted(self._db)
        reserve_log(self.folder / DATABASE)
        return is_overwritten

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work as one transaction. Raises Unavailable, and changes nothing then."""
        return await self.thread.run(self._run_transaction, work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read without waiting for other processes' transactions. Raises Unavailable."""
        return await self.thread.submit(work, self._db)

    def _run_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work as one transaction. Only the first caller who finds the lock held waits for LOCKED_S, until the lock
        was free again."""
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
        try:
            check_hold(self._db, self._epoch)
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
        """Finish the work under way and close. Blocking."""
        self.thread.close()
        self._opened.close()
