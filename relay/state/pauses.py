"""Pauses of connectors, which outlast a restart.

The functions here work on the databases of all workers, whether relay runs or not. A running relay obeys within a
second. They raise FileNotFoundError if no relay has run there, sqlite3.Error.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from relay.state.database_file import connect, convert_errors
from relay.state.layout import list_worker_folders
from relay.store import Pause


def pause_connector(folder: Path, connector: str, until: float | None = None) -> bool:
    """Pause a connector until a time (Unix seconds) or until `resume`; return False if it is paused as long already."""
    return _change(
        folder,
        """
        INSERT INTO pause (connector, since, until) VALUES (?, ?, ?)
        ON CONFLICT (connector) DO UPDATE SET until = excluded.until WHERE until IS NOT excluded.until
        """,
        (connector, time.time(), until),
    )


def resume_connector(folder: Path, connector: str) -> bool:
    """Resume a connector; return False if it was not paused."""
    return _change(folder, "DELETE FROM pause WHERE connector = ?", (connector,))


def _change(folder: Path, query: str, values: Sequence[object]) -> bool:
    changed = 0
    for mine in list_worker_folders(folder).values():  # the first one first: others follow it when they start
        with closing(connect(mine, "rw")) as db:
            db.execute("DELETE FROM pause WHERE until <= ?", (time.time(),))
            changed += db.execute(query, values).rowcount
    return changed > 0


def list_pauses(folder: Path) -> dict[str, Pause]:
    """Return the present pauses by connector."""
    with closing(connect(folder, "ro")) as db:
        return read_pauses(db)


def follow_pauses(db: sqlite3.Connection, first: Path) -> None:
    """Copy the pauses of the first worker, whose folder is given, into a worker's database. Part of a transaction."""
    wanted = list_pauses(first)
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


class FolderPauses:
    """The pauses of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @convert_errors()
    def pause(self, connector: str, until: float | None = None) -> bool:
        return pause_connector(self._folder, connector, until)

    @convert_errors()
    def resume(self, connector: str) -> bool:
        return resume_connector(self._folder, connector)

    @convert_errors()
    def read(self) -> dict[str, Pause]:
        return list_pauses(self._folder)
