"""Connectors that an admin has paused: kept in the state database, so that a pause outlasts a restart.

The functions here work on the databases of a state folder, those of all workers, whether relay runs or not; a running
one heeds them within a second. They raise FileNotFoundError (no relay has run there), sqlite3.Error.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from relay.journal.folders import worker_folders
from relay.journal.parked import connect


def pause(folder: Path, connector: str) -> bool:
    """Have a connector's lanes hold their events; False if they do already."""
    return _change(folder, "INSERT OR IGNORE INTO pause VALUES (?, ?)", (connector, time.time()))


def resume(folder: Path, connector: str) -> bool:
    """Have a connector's lanes go on; False if it was not paused."""
    return _change(folder, "DELETE FROM pause WHERE connector = ?", (connector,))


def _change(folder: Path, query: str, values: Sequence[object]) -> bool:
    changed = 0
    for mine in worker_folders(folder).values():  # the first one first: others follow it when they start
        with closing(connect(mine, "rw")) as db:
            changed += db.execute(query, values).rowcount
    return changed > 0


def pauses(folder: Path) -> dict[str, float]:
    """The paused connectors, each with the Unix seconds since when."""
    with closing(connect(folder, "ro")) as db:
        return read_pauses(db)


def follow_pauses(db: sqlite3.Connection, first: Path) -> None:
    """Have a worker pause what the first one, which has this folder, does: it may not have been there when that was
    asked for. A part of a transaction."""
    wanted = pauses(first)
    db.execute("DELETE FROM pause")
    db.executemany("INSERT INTO pause VALUES (?, ?)", wanted.items())


def read_pauses(db: sqlite3.Connection) -> dict[str, float]:
    """The same from an open database."""
    return dict(db.execute("SELECT connector, since FROM pause").fetchall())
