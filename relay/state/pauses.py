"""Pauses of connectors, which outlast a restart. A running relay obeys within a second.

Functions with a database are parts of transactions.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from relay.state.database_file import connect, convert_errors
from relay.state.layout import list_worker_folders
from relay.store import Pause


class FolderPauses:
    """The pauses of a state folder: in the databases of all workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pause(self, connector: str, until: float | None = None) -> bool:
        return self._change(
            """
            INSERT INTO pause (connector, since, until) VALUES (?, ?, ?)
            ON CONFLICT (connector) DO UPDATE SET until = excluded.until WHERE until IS NOT excluded.until
            """,
            (connector, time.time(), until),
        )

    def resume(self, connector: str) -> bool:
        return self._change("DELETE FROM pause WHERE connector = ?", (connector,))

    @convert_errors()
    def _change(self, query: str, values: Sequence[object]) -> bool:
        changed = 0
        for mine in list_worker_folders(self._folder).values():  # the first one first: others follow it at their start
            with closing(connect(mine, "rw")) as db:
                db.execute("DELETE FROM pause WHERE until <= ?", (time.time(),))
                changed += db.execute(query, values).rowcount
        return changed > 0

    @convert_errors()
    def read(self) -> dict[str, Pause]:
        with closing(connect(self._folder, "ro")) as db:
            return read_pauses(db)


def follow_pauses(db: sqlite3.Connection, first: Path) -> None:
    """Copy the pauses of the first worker, whose folder is given, into a worker's database. Part of a transaction."""
    with closing(connect(first, "ro")) as other:
        wanted = read_pauses(other)
    db.execute("DELETE FROM pause")
    rows = [(connector, one.since, one.until) for connector, one in wanted.items()]
    db.executemany("INSERT INTO pause (connector, since, until) VALUES (?, ?, ?)", rows)


def read_pauses(db: sqlite3.Connection) -> dict[str, Pause]:
    """Read the present pauses from an open database."""
    rows = db.execute("SELECT connector, since, until FROM pause WHERE until IS NULL OR until > ?", (time.time(),))
    return {connector: Pause(since, until) for connector, since, until in rows}


def delete_pause(db: sqlite3.Connection, connector: str) -> None:
    """Delete the pause of a connector, if there is a pause."""
    db.execute("DELETE FROM pause WHERE connector = ?", (connector,))
