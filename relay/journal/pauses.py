"""Connectors that an admin has paused: kept in the state database, so that a pause outlasts a restart.

The functions here work whether relay runs or not; a running one heeds them within a second. They raise
FileNotFoundError (no relay has run there), sqlite3.Error.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from relay.journal.parked import connect


def pause(folder: Path, connector: str) -> bool:
    """Have a connector's lane hold its events; False if it does already."""
    with closing(connect(folder, "rw")) as db:
        return db.execute("INSERT OR IGNORE INTO pause VALUES (?, ?)", (connector, time.time())).rowcount > 0


def resume(folder: Path, connector: str) -> bool:
    """Have a connector's lane go on; False if it was not paused."""
    with closing(connect(folder, "rw")) as db:
        return db.execute("DELETE FROM pause WHERE connector = ?", (connector,)).rowcount > 0


def pauses(folder: Path) -> dict[str, float]:
    """The paused connectors, each with the Unix seconds since when."""
    with closing(connect(folder, "ro")) as db:
        return read_pauses(db)


def read_pauses(db: sqlite3.Connection) -> dict[str, float]:
    """The same from an open database."""
    return dict(db.execute("SELECT connector, since FROM pause").fetchall())
