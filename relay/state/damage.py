"""The table `damage` of relay.db: unreadable events of a journal, until an admin accepts or repairs the damage."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Final

from relay.journal import Damage, merge_overlapping
from relay.state.database_file import connect
from relay.words import format_count, format_ranges

SHOWN: Final = 3
AT_MOST: Final = "at most "
"""Stands before a number of events that is an upper bound."""
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


def describe_damage(found: Sequence[Damage], *, is_bound: bool = False) -> str:
    """Describe damage in a sentence; "" without any. `is_bound`: some offsets may belong to no event."""
    if not found:
        return ""
    files = {one.file: [each for each in found if each.file == one.file] for one in found}
    events = sum(stop - start for start, stop in merge_overlapping((one.start, one.stop) for one in found))
    parts = []
    for file, its in [*files.items()][:SHOWN]:
        offsets = format_ranges([*merge_overlapping((one.start, one.stop) for one in its)])
        saved = [one.saved for one in its if one.saved is not None]
        others = (
            f"; the file's {format_count(max(saved), 'other event')} can be read and are delivered" if saved else ""
        )
        parts.append(f"offsets {offsets} in {file} ({its[0].reason}{others})")
    if (more := len(files) - SHOWN) > 0:
        parts.append(f"and in {format_count(more, 'more file')}")
    most = AT_MOST if is_bound else ""
    return f"{most}{format_count(events, 'event')} cannot be read: {'; '.join(parts)}"


def is_bound(said: str) -> bool:
    """Return whether a sentence of `describe_damage` gives an upper bound, not a count."""
    return said.startswith(AT_MOST)


def was_damaged(folder: Path, offset: int) -> bool:
    """Return whether an event was ever unreadable, accepted or not. Raises FileNotFoundError, sqlite3.Error."""
    query = "SELECT 1 FROM damage WHERE start <= ?1 AND stop > ?1"
    with closing(connect(folder, "ro")) as db:
        return db.execute(query, (offset,)).fetchone() is not None


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
