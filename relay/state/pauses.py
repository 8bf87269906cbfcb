"""Connectors that an admin has paused: kept in the state database, so that a pause outlasts a restart.

The functions here work on the databases of a state folder, those of all workers, whether relay runs or not; a running
one heeds them within a second. They raise FileNotFoundError (no relay has run there), sqlite3.Error.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relay.state.database_file import connect
from relay.state.layout import worker_folders


@dataclass(frozen=True, slots=True)
class Pause:
    """What an admin has asked for. Times are Unix seconds."""

    since: float
    until: float | None = None
    """When it ends by itself; None: an admin ends it."""

    def is_over(self, now: float) -> bool:
        """Whether it has ended by itself."""
        return self.until is not None and self.until <= now


def pause_connector(folder: Path, connector: str, until: float | None = None) -> bool:
    """Have a connector's lanes hold their events, until a time (Unix seconds) or until `resume`; False if they do
    already, as long."""
    return _change(
        folder,
        """
        INSERT INTO pause (connector, since, until) VALUES (?, ?, ?)
        ON CONFLICT (connector) DO UPDATE SET until = excluded.until WHERE until IS NOT excluded.until
        """,
        (connector, time.time(), until),
    )


def resume_connector(folder: Path, connector: str) -> bool:
    """Have a connector's lanes go on; False if it was not paused."""
    return _change(folder, "DELETE FROM pause WHERE connector = ?", (connector,))


def _change(folder: Path, query: str, values: Sequence[object]) -> bool:
    changed = 0
    for mine in worker_folders(folder).values():  # the first one first: others follow it when they start
        with closing(connect(mine, "rw")) as db:
            db.execute("DELETE FROM pause WHERE until <= ?", (time.time(),))
            changed += db.execute(query, values).rowcount
    return changed > 0


def list_pauses(folder: Path) -> dict[str, Pause]:
    """The connectors that are paused now."""
    with closing(connect(folder, "ro")) as db:
        return read_pauses(db)


def follow_pauses(db: sqlite3.Connection, first: Path) -> None:
    """Have a worker pause what the first one, which has this folder, does: it may not have been there when that was
    asked for. A part of a transaction."""
    wanted = list_pauses(first)
    db.execute("DELETE FROM pause")
    rows = [(connector, one.since, one.until) for connector, one in wanted.items()]
    db.executemany("INSERT INTO pause (connector, since, until) VALUES (?, ?, ?)", rows)


def read_pauses(db: sqlite3.Connection) -> dict[str, Pause]:
    """The same from an open database."""
    rows = db.execute("SELECT connector, since, until FROM pause WHERE until IS NULL OR until > ?", (time.time(),))
    return {connector: Pause(since, until) for connector, since, until in rows}


def delete_pause(db: sqlite3.Connection, connector: str) -> None:
    """Delete the pause of a connector, if there is a pause."""
    db.execute("DELETE FROM pause WHERE connector = ?", (connector,))
