"""The table `damage` of relay.db: unreadable events of a journal, until an admin accepts or repairs the damage."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from msgspec.structs import astuple

from relay.state.database_file import connect
from relay.store import Damage

_NOTE: Final = """
    INSERT INTO damage (start, stop, file, reason, saved, met) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_READ: Final = "SELECT start, stop, file, reason, saved FROM damage WHERE accepted IS NULL ORDER BY start"
_ACCEPT: Final = "UPDATE damage SET accepted = ? WHERE accepted IS NULL"


def save_damage(db: sqlite3.Connection, found: Iterable[Damage]) -> None:
    """Save damage. Known damage stays as it is, accepted or not."""
    now = time.time()
    db.executemany(_NOTE, [(*astuple(one), now) for one in found])


def read_damage(db: sqlite3.Connection) -> list[Damage]:
    """Return the damage that no admin has accepted."""
    return [Damage(*row) for row in db.execute(_READ)]


def was_damaged(folder: Path, offset: int) -> bool:
    """Return whether an event was ever unreadable, accepted or not. Raises FileNotFoundError, sqlite3.Error."""
    query = "SELECT 1 FROM damage WHERE start <= :offset AND stop > :offset"
    with closing(connect(folder, "ro")) as db:
        return db.execute(query, {"offset": offset}).fetchone() is not None


def mark_accepted(db: sqlite3.Connection) -> None:
    """Mark all damage as accepted."""
    db.execute(_ACCEPT, (time.time(),))


def delete_damage(db: sqlite3.Connection) -> None:
    """Delete all damage, because the offsets mean other events now."""
    db.execute("DELETE FROM damage")


def mark_repaired(folder: Path, files: Sequence[str]) -> None:
    """Mark the damage of these journal files as repaired; `folder` may have no database. Raises sqlite3.Error."""
    with suppress(FileNotFoundError), closing(connect(folder, "rw")) as db:
        db.executemany(f"{_ACCEPT} AND file = ?", [(time.time(), file) for file in files])
