"""What is small and queryable: cursors with their ledger, and parked events. SQLite, open to every admin's tools.

Every method is one transaction, synced before it returns (WAL, synchronous=FULL), on a thread of its own. A cursor and
its counts are one row, so they cannot disagree. A crash loses at most the cursors since the last save: what they had
settled is delivered once more.
"""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from relay.journal.cursor import OUTCOMES, Counts, Cursor, Ledger
from relay.journal.lock import lock

FILE_NAME: Final = "relay.db"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that was put aside, and why."""

    source: str
    connector: str | None
    offset: int | None
    type: str | None
    cause: str
    reason: str
    attempts: int
    body: bytes


class State:
    """The state database of one state folder."""

    def __init__(self, folder: Path) -> None:
        """Open the database. Blocking. Raises OSError (another relay has the folder), sqlite3.Error."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(folder)
        (folder / FILE_NAME).touch(mode=0o600)  # parked events are personal data
        self._db = sqlite3.connect(folder / FILE_NAME, check_same_thread=False, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(files("relay.journal").joinpath("state.sql").read_text("utf-8"))
        self._thread = ThreadPoolExecutor(1, "state")

    async def cursor(self, connector: str) -> Cursor | None:
        """The saved cursor of a connector; None if it never ran."""
        columns = ", ".join(OUTCOMES)
        query = f"SELECT start, position, ahead, {columns} FROM cursor WHERE connector = ?"  # noqa: S608
        row = await self._run(lambda db: db.execute(query, (connector,)).fetchone())
        if row is None:
            return None
        start, position, ahead, *counts = row
        return Cursor(start, position, [(first, stop) for first, stop in json.loads(ahead)], Counts(*counts))

    async def pending(self, head: int) -> dict[str, int]:
        """For every connector that ever ran, the events that had no outcome when the journal's head is there."""
        query = f"SELECT connector, ? - start - {' - '.join(OUTCOMES)} FROM cursor"  # noqa: S608
        return dict(await self._run(lambda db: db.execute(query, (head,)).fetchall()))

    async def save(self, cursors: Mapping[str, Cursor], head: int) -> None:
        """Save cursors with their counts, all or none."""
        rows = [
            (connector, head, cursor.start, cursor.position, json.dumps(cursor.ahead), *astuple(cursor.counts))
            for connector, cursor in cursors.items()
        ]
        marks = ", ".join("?" * (5 + len(OUTCOMES)))
        query = f"REPLACE INTO cursor VALUES ({marks}, {time.time()})"  # noqa: S608
        await self._run(lambda db: db.executemany(query, rows))

    async def park(self, parked: Sequence[Parked]) -> None:
        """Put events aside."""
        rows = [
            (
                one.source,
                one.connector,
                one.offset,
                one.type,
                one.cause,
                one.reason,
                one.attempts,
                time.time(),
                one.body,
            )
            for one in parked
        ]
        query = "REPLACE INTO parked VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        await self._run(lambda db: db.executemany(query, rows))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._db)
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


def ledger(folder: Path) -> dict[str, Ledger]:
    """The books of every lane as last saved in a state folder, whether relay runs or not."""
    columns = ", ".join(OUTCOMES)
    query = f"SELECT connector, head - start, {columns} FROM cursor ORDER BY connector"  # noqa: S608
    return {name: Ledger(accepted, Counts(*counts)) for name, accepted, *counts in _look(folder, query)}


def parked(folder: Path) -> list[Parked]:
    """All parked events of a state folder, the oldest first, whether relay runs or not."""
    query = "SELECT source, connector, offset, type, cause, reason, attempts, body FROM parked ORDER BY number"
    return [Parked(*row) for row in _look(folder, query)]


def _look(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the database without a right to change it. Raises FileNotFoundError, sqlite3.Error."""
    path = folder / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"{path}: no relay has run with this state folder")
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute(query).fetchall()
