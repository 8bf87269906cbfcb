"""The state of one partition in PostgreSQL: cursors with their ledgers, parked events and more.

Every method is one transaction of a thread and a connection of its own, durable when the method returns. A cursor and
its counts are one row, so they cannot disagree. A crash loses at most the cursors since the last save: events settled
since then are delivered once more. `transactions.py` tells what a lost connection does.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from relay.api import Connector
from relay.postgres.connection import Database, PostgresConnection
from relay.postgres.error import convert_errors
from relay.postgres.lease import Lease
from relay.postgres.state.attempts import forget_attempts, save_attempts
from relay.postgres.state.cursor import (
    find_begun,
    load_cursor,
    load_cursors,
    make_cursor_rows,
    read_now,
    save_cursors,
)
from relay.postgres.state.cuts import CutWriter, TableCuts, delete_cuts_of_replays
from relay.postgres.state.damage import save_damage
from relay.postgres.state.erasures import PostgresErasures
from relay.postgres.state.journal_state import read_head, read_times, save_head
from relay.postgres.state.ledger import read_memories, read_sources, save_memory, save_sources
from relay.postgres.state.parked import (
    add_parked,
    delete_delivered,
    delete_parked,
    is_beyond,
    make_room,
    read_keys,
    read_marked,
    read_places,
    read_ranges,
    remove_some,
)
from relay.postgres.state.pauses import read_pauses
from relay.postgres.state.plugin_store import StoreTable
from relay.postgres.state.replays import read_open_replays, save_replays
from relay.postgres.state.transactions import HolderTransactions
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
    find_acknowledged_head,
)

T = TypeVar("T")
SAVE_S: Final = 1.0
"""A row that is saved often leaves many dead versions, which nobody can remove during another's long transaction."""
HEAD_S: Final = 60.0
"""Seconds between two saves of the log's head, which the cursors save as well."""
CHANGES: Final = "SELECT changes + epoch FROM $.partition JOIN $.holder USING (partition) WHERE partition = %s"


class PostgresSources(ThreadedState[PostgresConnection]):
    """What sources leave in a partition beside their events, also without the lease of the partition."""

    def __init__(self, database: Database, partition: int, hold: str = "", slot: int | None = None) -> None:
        """`hold`: the statement that checks the lease. `slot`: the number of the process that keeps counts and memories
        of its sources; None: that of the partition."""
        super().__init__(convert_errors)
        self.worker, self._database = partition, database
        self._slot = partition if slot is None else slot
        self._transactions = HolderTransactions(database, partition, hold)

    async def run(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run work as one transaction, which may happen twice if its end is unknown. Raises Unavailable."""
        return await self.thread.run(self._transactions.run, work)

    async def read(self, work: Callable[[PostgresConnection], T]) -> T:
        """Read without the check of the lease, a statement at a time. Raises Unavailable."""
        return await self.thread.submit(self._transactions.read, work)

    async def park(self, parked: Sequence[Parked]) -> list[int]:
        """Park events; return their numbers. A parked event keeps its number, and its attempts add up.

        Other parked events may be removed to make room (`parked_limits`). Parks nothing if it is cancelled before its
        end.
        """
        return await self._park(
            parked,
            lambda db, size: make_room(db, self.worker, self.parked_limits, size),
            lambda db: add_parked(db, self.worker, parked),
        )

    async def unpark(self, numbers: Sequence[int]) -> None:
        """Delete the events just parked with these numbers."""
        await self.run(lambda db: delete_parked(db, self.worker, numbers))

    async def read_sources(self) -> dict[str, SourceLedger]:
        """Return the last saved ledger of each source."""
        return {one.source: one for one in await self.run(lambda db: read_sources(db, self._slot))}

    def save_sources(self, ledgers: Sequence[SourceLedger]) -> asyncio.Future[object]:
        """Save the sources' ledgers. Starts at once; await the result only to learn how it ends."""
        return self.thread.submit(self._transactions.run, lambda db: save_sources(db, self._slot, ledgers))

    async def read_memories(self) -> dict[str, str]:
        """Return the saved memory of each source."""
        return await self.run(lambda db: read_memories(db, self._slot))

    async def save_memory(self, source: str, memory: str) -> None:
        """Save a source's memory."""
        await self.run(lambda db: save_memory(db, self._slot, source, memory))

    def close(self) -> None:
        """Finish the work under way and close. Blocking."""
        self.thread.close()
        self._transactions.close()


class PostgresState(PostgresSources):
    """The state of a partition, for the holder of its lease. See `relay.store.State`."""

    def __init__(self, database: Database, lease: Lease) -> None:
        """Read what the last holder has saved. Blocking. Raises Unavailable, and gives the lease back then."""
        super().__init__(database, lease.partition, lease.hold)
        self._lease = lease
        self.clock = Clock()
        """The clock by which data expires."""
        self.when_taken: Callable[[str], object] = lambda reason: None
        """Gets the reason once another process works with the partition."""
        self._begun: dict[str, float] = {}
        """When connectors without a cursor began here."""
        self.thread.when_taken = self._lose
        self._cuts = CutWriter(self.thread, self._transactions, self.worker)
        self._head_saved = False, -HEAD_S
        """Whether the clock was ahead at the last save of the head, and when that was."""
        self.save_s = SAVE_S
        self.erasures = PostgresErasures(self, database)
        """The requested erasures."""
        self.now: int | None = None
        """Where a connector without a cursor begins that begins "now"; None: at the log's head."""
        try:
            self.now = self._transactions.run(self._read_saved_head)
        except BaseException:
            self.close()
            raise

    async def run_once(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run work as one transaction that never happens twice. Raises Unavailable."""
        return await self.thread.run(self._transactions.run_once, work)

    def _lose(self, reason: str) -> None:
        self._lease.end(reason)
        self.when_taken(reason)

    def _read_saved_head(self, db: PostgresConnection) -> int:
        """Return the last head that was saved: events above it came while nobody worked with the partition."""
        return max(read_head(db, self.worker), find_acknowledged_head(load_cursors(db, self.worker)))

    def make_plugin_store(self, connector: Connector) -> StoreTable:
        """Make the store of a connector. Connects to nothing yet."""
        whose = connector.type, connector.name, connector.work_in_threads
        return StoreTable(self._database, self.worker, self._lease.hold, *whose)

    async def await_taken(self) -> str:
        """Wait until this process may deliver nothing more of the partition; return the reason."""
        await self._lease.await_over()
        return self._lease.why

    async def changes(self) -> int:
        """Return a number that is another one when somebody else has written, or parked events were removed."""

        def read(db: PostgresConnection) -> int:
            ((changes,),) = db.run(CHANGES, (self.worker,)).fetchall()
            return int(changes)

        return await self.read(read) + self._removed

    async def load_cursor(self, connector: str) -> Cursor | None:
        """Return the saved cursor of a connector; None if the connector never ran."""
        now, cursor = await self.run(lambda db: (read_now(db), load_cursor(db, self.worker, connector)))
        if cursor is None:
            self._begun[connector] = now  # anew if it was forgotten meanwhile
        return cursor

    async def find_begun(self, connector: str) -> float | None:
        """Find when a connector began in any partition; None if it never ran."""
        return await self.run(lambda db: find_begun(db, connector))

    async def read_lane_ledgers(self) -> list[LaneLedger]:
        """Return the last saved ledger of each lane that ever ran, the one saved last first."""
        return await self.run(lambda db: load_cursors(db, self.worker))

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

        A parked event stays if it has failed since it was read (`read_marked`). `head`: the log's head.
        """
        rows, is_ahead, now = make_cursor_rows(cursors, head, self._begun), self.clock.ahead > 0, time.monotonic()
        was_ahead, saved_at = self._head_saved
        saves_head = was_ahead != is_ahead or now > saved_at + HEAD_S or not rows

        def write(db: PostgresConnection) -> None:
            save_cursors(db, self.worker, rows)
            delete_delivered(db, self.worker, delivered_again)
            save_replays(db, self.worker, replays)
            save_attempts(db, self.worker, attempts)
            save_damage(db, self.worker, damage)
            if saves_head:
                save_head(db, self.worker, head, self.clock.now(), self.clock.ahead)

        await self.run(write)
        if saves_head:
            self._head_saved = is_ahead, now

    async def save_end(self, head: int) -> None:
        """Save that the log was closed with this head."""
        await self.run(lambda db: save_head(db, self.worker, head, self.clock.now(), self.clock.ahead))

    async def forget_attempts(self, oldest: int) -> None:
        """Delete the attempts at events below this offset, which have left the log, and the oldest of too many."""
        await self.run(lambda db: forget_attempts(db, self.worker, oldest))

    async def read_accepted(self) -> None:
        """Read what an admin has accepted meanwhile of the clock and the log."""
        known = await self.run(lambda db: read_times(db, self.worker))
        self.clock.accept(known.time, known.accepted)
        self.now = known.unheard

    async def read_pauses(self) -> dict[str, Pause]:
        """Return the pauses by connector."""
        return await self.run(read_pauses)

    async def follow_pauses(self) -> None:
        """Do nothing: a pause is for all partitions."""

    async def read_replays(self) -> list[Replay]:
        """Return the replays that run or wait, the last one first."""
        return await self.run(lambda db: read_open_replays(db, self.worker))

    async def read_marked(
        self, connector: str, events: int, size: int, offsets: Sequence[int] | None = None
    ) -> list[Parked]:
        """Return parked events of a connector that are to be delivered again, in the log's order.

        Return at most `events` that fit into `size` bytes, but at least one; only at `offsets`, if given. Of each key
        only the first event is returned. The others, and events parked only for their order, follow later.
        """
        return await self.run(lambda db: read_marked(db, self.worker, connector, events, size, offsets))

    async def read_parked_places(self, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
        """Return offset and part of what a lane, not a replay, has parked of the events at these offsets."""
        return await self.run(lambda db: read_places(db, self.worker, connector, offsets))

    async def read_parked_keys(self, connector: str, but: Sequence[int] = ()) -> set[str]:
        """Return the ordering keys of a connector's parked events, without the events of these numbers."""
        return await self.run(lambda db: read_keys(db, self.worker, connector, but))

    async def read_parked_in(self, connector: str, ranges: Sequence[tuple[int, int]]) -> list[Parked]:
        """Return what a lane, not a replay, has parked in these ranges, without the bodies."""
        return await self.run(lambda db: read_ranges(db, self.worker, connector, ranges))

    async def remove_parked(self) -> bool:
        """Remove some parked events that are too old or too many (`parked_limits`); return whether any was."""
        limits, now = self.parked_limits, self.clock.now(self.parked_limits.retention)
        if not await self.read(lambda db: is_beyond(db, self.worker, limits, now)):
            return False
        gone = await self.run_once(lambda db: remove_some(db, self.worker, limits, now))
        self._note_removed(gone)
        return bool(gone)

    async def shrink(self) -> bool:
        """Return False: the server gives room back by itself."""
        return False

    def open_cuts(self, connector: str, part: str = "") -> TableCuts:
        """Return the saved cuts of a connector, or of another part of its work: a replay's number, or "again"."""
        return TableCuts(self._cuts, connector, part, self._database.place)

    async def remove_cuts_of_replays(self, but: Collection[int]) -> None:
        """Remove the saved cuts of all replays but these."""
        await self.run(lambda db: delete_cuts_of_replays(db, self.worker, but))

    def close(self) -> None:
        """Finish the work under way, close, and give the lease back. Blocking."""
        super().close()
        self._lease.give_back()
