"""The embedded store: a state folder, with a folder for each worker. A worker is a partition.

The classes here and in the modules of the tables convert errors of SQLite and files to Unavailable. The functions below
them raise FileNotFoundError if no relay has run with the folder, OSError and sqlite3.Error.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from relay.journal import Journal, JournalView, OtherJournal, is_locked, read_holder
from relay.state.alerts import FolderAlerts
from relay.state.attempts import delete_attempts_of, find_attempts_at
from relay.state.cursor import delete_cursor
from relay.state.cuts import list_cut_files
from relay.state.damage import was_damaged
from relay.state.database import StateDatabase
from relay.state.database_file import connect, convert_errors, find_reason
from relay.state.disk_usage import describe_full_disk, measure_usage
from relay.state.erasure.table import FolderErasures, forget_at_connector, has_open_erasures, take_over_requests
from relay.state.history import FolderHistory
from relay.state.journal_state import (
    FolderDoubts,
    advise_on_error,
    find_worker_doubts,
    has_tables,
    read_acknowledged,
)
from relay.state.layout import (
    CLOSED,
    DATABASE,
    advise_on_restore,
    list_worker_folders,
    make_journal_folder,
    make_worker_folder,
    read_bar,
)
from relay.state.ledger import read_lane_ledgers, read_lanes_if_any, read_ledger, read_source_ledgers
from relay.state.open_folder import open_both, view_journal
from relay.state.parked import (
    FolderParked,
    find_parked_at,
    has_marked,
    read_parked_offsets,
    read_worker_totals,
)
from relay.state.pauses import FolderPauses, delete_pause
from relay.state.plugin_store import remove_stores
from relay.state.replays import FolderReplays, delete_replays_of, find_replays_over, has_open_replays
from relay.store import (
    Attempts,
    Doubt,
    Forgotten,
    JournalLimits,
    LaneLedger,
    Parked,
    ParkedQuery,
    ParkedTotal,
    PartitionView,
    Replay,
    SourceLedger,
    StoreHealth,
    Unavailable,
)
from relay.words import describe_error, format_largest


class StateFolder:
    """The store in a state folder. See `relay.store.Store`."""

    def __init__(self, folder: Path, path: Path) -> None:
        """`path`: the setting `journal.path`."""
        self._folder, self._path = folder, path
        self.place = str(folder)
        self.pauses = FolderPauses(folder)
        self.parked = FolderParked(folder)
        self.replays = FolderReplays(folder)
        self.erasures = FolderErasures(folder)
        self.history = FolderHistory(folder)
        self.alerts = FolderAlerts(folder)
        self.doubts = FolderDoubts(folder, path)
        self.shared_partitions = 0
        self._opened: dict[int, FolderInbox] = {}

    def open(self, partition: int, limits: JournalLimits, memory: int) -> tuple[Journal, StateDatabase]:
        folder = make_worker_folder(self._folder, partition)
        journal = make_journal_folder(self._folder, self._path, partition)
        try:
            self._check_complete()
            opened, state = open_both(folder, journal, partition, limits, memory)
            if partition:
                with suppress(OSError, sqlite3.Error):  # the first worker has yet to start, and will share them
                    take_over_requests(folder, self._folder)
        except Unavailable:
            raise
        except OtherJournal as error:
            raise Unavailable(str(error)) from error
        except OSError as error:
            raise Unavailable(f"the state folder {folder} cannot be used: {describe_error(error)}") from error
        except sqlite3.Error as error:
            why = "; ".join(filter(None, [str(error), advise_on_error(error)]))
            raise Unavailable(f"{folder / DATABASE} cannot be used: {why}", find_reason(error)) from error
        self._opened[partition] = FolderInbox(opened, state)
        return opened, state

    def open_inbox(self, worker: int, limits: JournalLimits) -> "FolderInbox":
        return self._opened[worker]

    def join(self, worker: int) -> "OwnPartition":
        return OwnPartition(worker)

    def read_processes(self) -> tuple[()]:
        return ()

    def read_health(self) -> StoreHealth:
        return StoreHealth()

    def view(self, partition: int = 0) -> PartitionView:
        return WorkerFolder(self._folder, self._path, partition)

    @convert_errors()
    def view_all(self) -> list[PartitionView]:
        return [self.view(number) for number in list_worker_folders(self._folder)]

    @convert_errors()
    def forget(self, connector: str) -> Forgotten:
        known = read_ledger(self._folder)
        if connector not in known:
            raise LookupError(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
        # In portions, and so before all else. The ledger goes after the parked events, so that the rest balances
        parked, erasures = sum(self.parked.drop(ParkedQuery(connector=connector))), 0
        for mine in list_worker_folders(self._folder).values():
            remove_stores(mine, connector)
            with closing(connect(mine, "rw")) as db:
                db.execute("BEGIN IMMEDIATE")
                for delete in (delete_cursor, delete_replays_of, delete_attempts_of, delete_pause):
                    delete(db, connector)
                erasures += forget_at_connector(db, connector)
                db.execute("COMMIT")
            for file in [*list_cut_files(mine, connector), mine / CLOSED / connector]:
                with suppress(OSError):  # what stays there does no harm
                    file.unlink()
        return Forgotten(connector, known[connector].pending, parked, erasures)

    @convert_errors()
    def check_complete(self) -> None:
        self._check_complete()

    def _check_complete(self) -> None:
        if advice := advise_on_restore(self._folder):
            raise Unavailable(f"the state folder {self._folder} is not complete: {advice}")
        if why := read_bar(self._folder):
            raise Unavailable(f"no relay starts with the state folder {self._folder}: {why}")

    def describe_usage(self, workers: int, files: Iterable[Path] = ()) -> str:
        return format_largest(measure_usage(self._folder, self._path, workers, files))

    def describe_full_disk(self, workers: int) -> str:
        return describe_full_disk(self._folder, self._path, workers)


class FolderInbox:
    """The inbox of a worker: its own journal and database. See `relay.store.Inbox`."""

    outage = None

    def __init__(self, journal: Journal, state: StateDatabase) -> None:
        self.events = self.first = journal
        self.sources = state

    def set_limits(self, limits: JournalLimits) -> None:
        pass  # the journal has got them

    async def close(self) -> None:
        pass  # the journal finishes its commits when it is closed


class OwnPartition:
    """A worker, which always runs the same partition. See `relay.store.Membership`."""

    def __init__(self, worker: int) -> None:
        self._partitions = (worker,)

    def find_wanted(self, failing: Collection[int] = ()) -> tuple[int, ...]:
        return self._partitions

    def report(self, status: bytes, tables: Mapping[str, str]) -> None:
        pass

    def leave(self) -> None:
        pass


class WorkerFolder:
    """One worker's part of a state folder, read from outside. See `relay.store.PartitionView`."""

    def __init__(self, state: Path, path: Path, number: int) -> None:
        """`path`: the setting `journal.path`."""
        self.number = number
        self._folder, self._journal = make_worker_folder(state, number), make_journal_folder(state, path, number)
        self.place = str(self._folder)

    @convert_errors()
    def is_in_use(self) -> bool:
        return is_locked(self._folder)

    @convert_errors()
    def find_process(self) -> int | None:
        return read_holder(self._folder)

    @convert_errors()
    def has_state(self) -> bool:
        return has_tables(self._folder)

    @convert_errors()
    def has_work(self) -> bool:
        if not has_tables(self._folder):
            return True
        with closing(connect(self._folder, "ro")) as db:
            asked = has_open_replays(db) or has_marked(db) or has_open_erasures(db)
        return asked or any(lane.ledger.pending for lane in read_lane_ledgers(self._folder))

    @convert_errors()
    def view_log(self) -> JournalView:
        return view_journal(self._folder, self._journal)

    @convert_errors()
    def read_acknowledged(self) -> int:
        return read_acknowledged(self._folder)

    @convert_errors()
    def read_lanes(self) -> list[LaneLedger]:
        return read_lane_ledgers(self._folder)

    @convert_errors()
    def read_lanes_if_any(self) -> list[LaneLedger]:
        return read_lanes_if_any(self._folder)

    @convert_errors()
    def read_sources(self) -> list[SourceLedger]:
        return read_source_ledgers(self._folder)

    @convert_errors()
    def read_parked_offsets(self) -> Mapping[str, Sequence[int]]:
        return read_parked_offsets(self._folder)

    @convert_errors()
    def read_parked_totals(self) -> list[ParkedTotal]:
        return read_worker_totals(self._folder)

    @convert_errors()
    def find_parked_at(self, offsets: Sequence[int]) -> list[Parked]:
        return find_parked_at(self._folder, offsets)

    @convert_errors()
    def find_attempts_at(self, offset: int) -> list[Attempts]:
        return find_attempts_at(self._folder, offset)

    @convert_errors()
    def find_replays_over(self, offset: int) -> list[Replay]:
        return find_replays_over(self._folder, offset)

    @convert_errors()
    def was_damaged(self, offset: int) -> bool:
        return was_damaged(self._folder, offset)

    @convert_errors()
    def find_doubts(self) -> list[Doubt]:
        return [*find_worker_doubts(self.number, self._folder, self._journal)]
