"""The engines that the suite of the state runs on: each opens a state, and does what admins do beside the state."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from relay.api import User
from relay.journal import KnownJournal
from relay.postgres.cluster import Cluster
from relay.postgres.connection import Values
from relay.postgres.lease import Leases
from relay.postgres.process import Process
from relay.postgres.state import attempts as attempt_table
from relay.postgres.state import damage as damage_table
from relay.postgres.state.erasure_queries import ClusterErasures
from relay.postgres.state.erasure_rows import PERSONAL
from relay.postgres.state.parked_queries import ClusterParked
from relay.postgres.state.pauses import ClusterPauses
from relay.postgres.state.replays import ClusterReplays
from relay.postgres.state.state import PostgresState
from relay.state.attempts import find_attempts_at
from relay.state.damage import was_damaged
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures
from relay.state.layout import make_worker_folder
from relay.state.pauses import FolderPauses
from relay.state.replays import FolderReplays
from relay.store import NUMBERS, Attempts, Erasure, Parked, ParkedQuery, Pause, Replay, State, merge_all
from tests.parked import list_parked, mark_parked
from tests.postgres import start_shared_pooler, start_shared_server
from tests.toy_store.erasures import add_erasure
from tests.toy_store.state import ToyBooks, ToyState, ToyTables

T = TypeVar("T")
LEASE_S: Final = 60.0
FILES: Final = """
    WITH mine AS (
        SELECT oid, reltoastrelid FROM pg_class JOIN unnest(%s::text[]) AS one ON pg_class.oid = to_regclass(one)
    )
    SELECT pg_relation_filepath(oid) FROM mine UNION ALL
    SELECT pg_relation_filepath(reltoastrelid) FROM mine WHERE reltoastrelid <> 0 UNION ALL
    SELECT pg_relation_filepath(indexrelid) FROM mine JOIN pg_index ON indrelid = oid
"""
"""The files of tables with their indexes."""


class StateEngine(ABC):
    """The states of some partitions on one engine."""

    def __init__(self) -> None:
        self.opened: list[State] = []

    def open(self, partition: int = 0) -> State:
        """Open the state of a partition."""
        self.opened.append(self._open(partition))
        return self.opened[-1]

    def close(self) -> None:
        """Close what is open."""
        while self.opened:
            self.opened.pop().close()

    @abstractmethod
    def _open(self, partition: int) -> State: ...

    @abstractmethod
    def end_lock(self) -> None:
        """Let another relay open what is open."""

    @abstractmethod
    def mark(self, *numbers: int) -> None:
        """Request a replay of parked events."""

    @abstractmethod
    def pause(self, connector: str, until: float | None = None) -> None:
        """Pause a connector in the present partitions."""

    @abstractmethod
    def ask_replay(self, replay: Replay) -> int:
        """Request a replay; return its number."""

    @abstractmethod
    def cancel_replay(self, number: int) -> None:
        """End a replay where it is."""

    @abstractmethod
    def list_replays(self) -> list[Replay]:
        """Return all replays, the last one first."""

    @abstractmethod
    def list_parked(self) -> list[Parked]:
        """Return all parked events, the oldest first."""

    @abstractmethod
    def find_attempts(self, offset: int) -> list[Attempts]:
        """Return the attempts at an event."""

    @abstractmethod
    def was_damaged(self, offset: int) -> bool:
        """Return whether an event was ever unreadable."""

    @abstractmethod
    def ask_erasure(self, user: User) -> int:
        """Request an erasure; return its number."""

    @abstractmethod
    def list_erasures(self) -> list[Erasure]:
        """Return all erasures, each once over all partitions, the newest first."""

    @abstractmethod
    def holds(self, text: str) -> bool:
        """Return whether anything that the engine keeps holds a text."""


class EmbeddedState(StateEngine):
    """Databases in a state folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _open(self, partition: int) -> State:
        state = StateDatabase(make_worker_folder(self._folder, partition), partition)
        state.adopt_journal(state.known or KnownJournal("a journal", 0), "")
        return state

    def end_lock(self) -> None:
        for lock in self._folder.rglob("lock"):
            lock.unlink()

    def mark(self, *numbers: int) -> None:
        mark_parked(self._folder, ParkedQuery(numbers=numbers))

    def pause(self, connector: str, until: float | None = None) -> None:
        FolderPauses(self._folder).pause(connector, until)

    def ask_replay(self, replay: Replay) -> int:
        return FolderReplays(self._folder).ask(replay)

    def cancel_replay(self, number: int) -> None:
        FolderReplays(self._folder).cancel(number)

    def list_replays(self) -> list[Replay]:
        return FolderReplays(self._folder).read()

    def list_parked(self) -> list[Parked]:
        return list_parked(self._folder)

    def find_attempts(self, offset: int) -> list[Attempts]:
        return find_attempts_at(self._folder, offset)

    def was_damaged(self, offset: int) -> bool:
        return was_damaged(self._folder, offset)

    def ask_erasure(self, user: User) -> int:
        return FolderErasures(self._folder).ask(user)

    def list_erasures(self) -> list[Erasure]:
        return FolderErasures(self._folder).read()

    def holds(self, text: str) -> bool:
        return any(text.encode() in path.read_bytes() for path in self._folder.rglob("*") if path.is_file())


class InMemoryState(StateEngine):
    """The toy."""

    def __init__(self) -> None:
        super().__init__()
        self._books: dict[int, ToyBooks] = {}

    def _open(self, partition: int) -> State:
        books = self._books.setdefault(partition, ToyBooks(partition))
        books.is_in_use = True
        others = lambda: [one for number, one in self._books.items() if number != partition]  # noqa: E731
        return ToyState(books, self._books.get(0), others=others)

    def end_lock(self) -> None:
        pass

    def _change(self, partition: int, work: Callable[[ToyTables], T]) -> T:
        return self._books[partition].change(work)

    def mark(self, *numbers: int) -> None:
        def write(now: ToyTables) -> None:
            for number in numbers:
                now.parked[number] = replace(now.parked[number], again=time.time())

        self._change(numbers[0] // NUMBERS, write)

    def pause(self, connector: str, until: float | None = None) -> None:
        for books in self._books.values():
            books.change(lambda now: now.pauses.update({connector: Pause(time.time(), until)}))

    def ask_replay(self, replay: Replay) -> int:
        def write(now: ToyTables) -> int:
            now.replay_number += 1
            now.replays[now.replay_number] = replace(replay, number=now.replay_number)
            return now.replay_number

        return self._change(0, write)

    def cancel_replay(self, number: int) -> None:
        def write(now: ToyTables) -> None:
            now.replays[number] = replace(now.replays[number], cancelled=time.time())

        self._change(0, write)

    def list_replays(self) -> list[Replay]:
        return [*reversed(self._books[0].tables.replays.values())]

    def list_parked(self) -> list[Parked]:
        return [one for books in self._books.values() for one in books.tables.parked.values()]

    def find_attempts(self, offset: int) -> list[Attempts]:
        made = self._books[0].tables.attempts.values()
        return [one for one in made if any(start <= offset < stop for start, stop in one.ranges)]

    def was_damaged(self, offset: int) -> bool:
        return any(one.start <= offset < one.stop for one in self._books[0].tables.damage)

    def ask_erasure(self, user: User) -> int:
        return self._change(0, lambda now: add_erasure(now, Erasure(asked=time.time(), user=user)))

    def list_erasures(self) -> list[Erasure]:
        return merge_all(
            (partition, one) for partition, books in self._books.items() for one in books.tables.erasures.values()
        )

    def holds(self, text: str) -> bool:
        return any(text in str(books.tables) for books in self._books.values())


class StateInPostgres(StateEngine):
    """Tables in PostgreSQL, behind a pooler in transaction mode. Each state has a lease of its own process."""

    def __init__(self) -> None:
        super().__init__()
        self._server = start_shared_server()
        self._database = self._server.make_database(dsn=start_shared_pooler().dsn)
        self._cluster = Cluster(self._database)
        self._leases = list[Leases]()

    def _open(self, partition: int) -> State:
        self._run("SELECT $.add_partitions(%s)", [partition + 1])
        self._leases.append(leases := Leases(self._database, Process("a"), LEASE_S))
        return PostgresState(self._database, leases.take(partition))

    def close(self) -> None:
        super().close()
        while self._leases:
            self._leases.pop().close()
        self._database.close()

    def end_lock(self) -> None:
        self._run("UPDATE $.lease SET until = '-infinity'")

    def _run(self, statement: str, values: Values = None) -> list[tuple[Any, ...]]:
        with self._database.use() as db:
            found = db.run(statement, values)
            return found.fetchall() if found.description else []

    def mark(self, *numbers: int) -> None:
        assert sum(ClusterParked(self._cluster).mark(ParkedQuery(numbers=numbers))) == len(numbers)

    def pause(self, connector: str, until: float | None = None) -> None:
        ClusterPauses(self._cluster).pause(connector, until)

    def ask_replay(self, replay: Replay) -> int:
        return ClusterReplays(self._cluster).ask(replay)

    def cancel_replay(self, number: int) -> None:
        ClusterReplays(self._cluster).cancel(number)

    def list_replays(self) -> list[Replay]:
        return ClusterReplays(self._cluster).read()

    def list_parked(self) -> list[Parked]:
        return [*ClusterParked(self._cluster).read(ParkedQuery())]

    def find_attempts(self, offset: int) -> list[Attempts]:
        with self._database.use() as db:
            return attempt_table.find_attempts_at(db, 0, offset)

    def was_damaged(self, offset: int) -> bool:
        with self._database.use() as db:
            return damage_table.was_damaged(db, 0, offset)

    def ask_erasure(self, user: User) -> int:
        return ClusterErasures(self._cluster).ask(user)

    def list_erasures(self) -> list[Erasure]:
        return ClusterErasures(self._cluster).read()

    def holds(self, text: str) -> bool:
        """Search the tables with personal data. The ids of processes in other tables look like short ids of users."""
        self._server.execute("CHECKPOINT")
        tables = [f"{self._database.schema}.{table}" for table in PERSONAL]
        paths = [self._server.folder / str(path) for (path,) in self._run(FILES, [tables])]
        return any(text.encode() in path.read_bytes() for path in paths if path.exists())


def make_engine(name: str, folder: Path) -> StateEngine:
    """Make an engine without any partition."""
    if name == "postgres":
        return StateInPostgres()
    return InMemoryState() if name == "toy" else EmbeddedState(folder)
