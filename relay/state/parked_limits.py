"""How much may lie parked, and what goes when it is too much: by age, by size, and by the room on the disk.

What was unreadable at a source goes first, the oldest first: nobody but its sender knows it. What connectors have
parked goes by age and by size only, and never while it is to be replayed. The ledger goes on counting it as parked,
and `parked_removed` counts what went and why. The functions here are parts of transactions, small ones.
"""

import json
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from relay.state.database_file import free_bytes

Reason = Literal["retention", "max_size", "min_free"]
"""The setting that had parked events removed."""
ROWS: Final = 500
BYTES: Final = 1 << 20
"""Of parked events that go in one transaction, if they are more than one."""
ROW_BYTES: Final = 200
"""About what an event takes in the database beside its texts."""

_STORED: Final = "SELECT coalesce(sum(bytes), 0) FROM parked_total"
SIZE: Final = f"{ROW_BYTES} + length(body) + length(reason) + length(answer) + ifnull(length(key), 0)"
"""Bytes of a parked event; `schema.sql` counts in the same way."""
_OLD: Final = f"SELECT number, {SIZE} FROM parked WHERE last < ? AND again IS NULL ORDER BY last LIMIT {ROWS}"  # noqa: S608
_UNREADABLE: Final = f"SELECT number, {SIZE} FROM parked WHERE connector IS NULL ORDER BY last LIMIT {ROWS}"  # noqa: S608
_ANY: Final = f"SELECT number, {SIZE} FROM parked WHERE again IS NULL ORDER BY last LIMIT {ROWS}"  # noqa: S608
_REMOVE: Final = f"""
    DELETE FROM parked WHERE number IN (SELECT value FROM json_each(?))
    RETURNING source, connector, cause, last, {SIZE}
"""  # noqa: S608
_COUNT: Final = """
    INSERT INTO parked_removed VALUES (?, ?, ?, ?, 1)
    ON CONFLICT DO UPDATE SET events = events + 1
"""


@dataclass(frozen=True, slots=True)
class ParkedLimits:
    """What parked events may take; 0 is no limit."""

    max_size: int = 0
    """Bytes, in one worker's database."""
    retention: float = 0.0
    """Seconds after their last failure."""
    min_free: int = 0
    """Bytes that they leave free on the file system. Unreadable ones leave twice as much, so that the journal has room
    before they do."""


class NoRoom(sqlite3.OperationalError):
    """Parked events would take what `journal.min_free` keeps free, and there are none that may go."""


class RemovedParked(NamedTuple):
    """A parked event that was removed."""

    source: str
    connector: str | None
    cause: str
    last: float
    """Unix seconds of its last failure."""
    size: int
    reason: Reason


@dataclass(slots=True)
class Removals:
    """Parked events that were removed for one reason, until somebody has told of them."""

    counts: Counter[str] = field(default_factory=Counter)
    """By connector, or "source NAME"."""
    oldest: float = math.inf
    """Unix seconds of the oldest one's last failure."""

    def add(self, gone: RemovedParked) -> None:
        """Count one more."""
        self.counts[gone.connector or f"source {gone.source}"] += 1
        self.oldest = min(self.oldest, gone.last)


def make_room(
    db: sqlite3.Connection, folder: Path, limits: ParkedLimits, size: int, *, made: int
) -> list[RemovedParked]:
    """Remove some of what is in the way of so many bytes more; nothing if there is room, or if `made`, what was removed
    for them before, is as much: then they take nothing more than what was there.

    Raises NoRoom."""
    if made >= size:
        return []
    spare = _spare(db, folder, limits)
    if (over := _over(db, limits, size)) > 0 and (gone := _by_size(db, over)):
        return gone
    if (short := limits.min_free + size - spare) > 0 and (gone := _by_room(db, short)):
        return gone
    if spare < size:
        raise NoRoom(
            f"the file system of {folder} is nearly full, and journal.min_free is kept free of parked events, too:"
            " free some space, drop parked events, or lower journal.min_free"
        )
    return []


def remove_some(db: sqlite3.Connection, folder: Path, limits: ParkedLimits, now: float) -> list[RemovedParked]:
    """Remove some of what is too old or too much; nothing if all may stay."""
    if limits.retention and (gone := _remove(db, _OLD, (now - limits.retention,), BYTES, "retention")):
        return gone
    if (over := _over(db, limits)) > 0 and (gone := _by_size(db, over)):
        return gone
    short = limits.min_free - _spare(db, folder, limits)
    return _by_room(db, short) if short > 0 else []


def size_of(reason: str, answer: str, key: str | None, body: bytes) -> int:
    """About the bytes that an event will take."""
    return ROW_BYTES + len(body) + len(reason) + len(answer) + len(key or "")


def _over(db: sqlite3.Connection, limits: ParkedLimits, more: int = 0) -> int:
    """Bytes beyond `max_size`, if so many more are parked."""
    (stored,) = db.execute(_STORED).fetchone() if limits.max_size else (0,)
    return int(stored) + more - limits.max_size if limits.max_size else 0


def _spare(db: sqlite3.Connection, folder: Path, limits: ParkedLimits) -> int:
    """Bytes that there are beyond `min_free`, on the disk and inside the database; much, if nobody cares."""
    if not limits.min_free:
        return 1 << 62
    return _free(folder) + free_bytes(db) - limits.min_free


def _free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def _by_size(db: sqlite3.Connection, size: int) -> list[RemovedParked]:
    return _remove(db, _UNREADABLE, (), size, "max_size") or _remove(db, _ANY, (), size, "max_size")


def _by_room(db: sqlite3.Connection, size: int) -> list[RemovedParked]:
    return _remove(db, _UNREADABLE, (), size, "min_free")


def _remove(
    db: sqlite3.Connection, query: str, values: tuple[float, ...], size: int, reason: Reason
) -> list[RemovedParked]:
    """Remove about so many bytes of those that the query finds, or a portion of them, and count what went."""
    numbers = take_first(db.execute(query, values).fetchall(), min(size, BYTES))
    rows = db.execute(_REMOVE, (json.dumps(numbers),)).fetchall()
    gone = [
        RemovedParked(source, connector, cause, last, size, reason) for source, connector, cause, last, size in rows
    ]
    db.executemany(_COUNT, [(one.source, one.connector or "", one.cause, reason) for one in gone])
    return gone


def take_first(found: Iterable[tuple[int, int]], size: int) -> list[int]:
    """The numbers of as many parked events (number, size) as have so many bytes: at least one, if there is one."""
    numbers: list[int] = []
    for number, its in found:
        numbers.append(number)
        size -= its
        if size <= 0:
            break
    return numbers
