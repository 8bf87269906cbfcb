"""How much may lie parked, and what goes when it is too much: by age, by size, and by the room on the disk.

What was unreadable at a source goes first, the oldest first: nobody but its sender knows it. What connectors have
parked goes by age and by size only, and never while it is to be replayed. The ledger goes on counting it as parked,
and `parked_removed` counts what went and why. The functions here are parts of transactions, small ones.
"""

import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from relay.state.database_file import free_bytes
from relay.state.parked import (
    BYTES,
    Reason,
    RemovedParked,
    find_old,
    find_unmarked,
    find_unreadable,
    remove_parked,
    stored_bytes,
    take_first,
)


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
    if limits.retention and (gone := _remove(db, find_old(db, now - limits.retention), BYTES, "retention")):
        return gone
    if (over := _over(db, limits)) > 0 and (gone := _by_size(db, over)):
        return gone
    short = limits.min_free - _spare(db, folder, limits)
    return _by_room(db, short) if short > 0 else []


def _over(db: sqlite3.Connection, limits: ParkedLimits, more: int = 0) -> int:
    """Bytes beyond `max_size`, if so many more are parked."""
    return stored_bytes(db) + more - limits.max_size if limits.max_size else 0


def _spare(db: sqlite3.Connection, folder: Path, limits: ParkedLimits) -> int:
    """Bytes that there are beyond `min_free`, on the disk and inside the database; much, if nobody cares."""
    if not limits.min_free:
        return 1 << 62
    return _free(folder) + free_bytes(db) - limits.min_free


def _free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def _by_size(db: sqlite3.Connection, size: int) -> list[RemovedParked]:
    return _remove(db, find_unreadable(db), size, "max_size") or _remove(db, find_unmarked(db), size, "max_size")


def _by_room(db: sqlite3.Connection, size: int) -> list[RemovedParked]:
    return _remove(db, find_unreadable(db), size, "min_free")


def _remove(db: sqlite3.Connection, found: Iterable[tuple[int, int]], size: int, reason: Reason) -> list[RemovedParked]:
    """Remove about so many bytes of the parked events (number, size) that were found, or a portion, and count them."""
    return remove_parked(db, take_first(found, min(size, BYTES)), reason)
