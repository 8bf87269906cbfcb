"""Limits of parked events by age, size and free disk space, and what is removed beyond them.

Events that were unreadable at a source are removed first, the oldest first: nobody but their sender knows them. Events
parked by connectors are removed by age and size only, and never while they are to be replayed. The ledger still counts
removed events as parked, and `parked_removed` counts them by reason. The functions here are parts of small
transactions.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from shutil import disk_usage

from relay.state.database_file import measure_free
from relay.state.parked.table import find_old, find_unmarked, find_unreadable, remove_parked
from relay.state.parked.totals import read_stored_bytes
from relay.store import PORTION_BYTES, ParkedLimits, Reason, RemovedParked, Unavailable, choose_first


def make_room(db: sqlite3.Connection, folder: Path, limits: ParkedLimits, size: int) -> list[RemovedParked]:
    """Remove some events to make room for so many more bytes; return the removed events.

    Removes nothing if there is room. Raises Unavailable if parked events would take what `journal.min_free` keeps free,
    and none may be removed.
    """
    spare = _measure_spare(db, folder, limits)
    if (over := _measure_excess(db, limits, size)) > 0 and (gone := _remove_by_size(db, over)):
        return gone
    if (short := limits.min_free + size - spare) > 0 and (gone := _remove_by_room(db, short)):
        return gone
    if spare < size:
        raise Unavailable(
            f"the file system of {folder} is nearly full, and journal.min_free is kept free of parked events, too:"
            " free some space, drop parked events, or lower journal.min_free",
            "full",
        )
    return []


def remove_some(db: sqlite3.Connection, folder: Path, limits: ParkedLimits, now: float) -> list[RemovedParked]:
    """Remove some events that are too old or too many; return the removed events."""
    if limits.retention and (gone := _remove(db, find_old(db, now - limits.retention), PORTION_BYTES, "retention")):
        return gone
    if (over := _measure_excess(db, limits)) > 0 and (gone := _remove_by_size(db, over)):
        return gone
    short = limits.min_free - _measure_spare(db, folder, limits)
    return _remove_by_room(db, short) if short > 0 else []


def _measure_excess(db: sqlite3.Connection, limits: ParkedLimits, more: int = 0) -> int:
    """Return the bytes beyond `max_size` after so many more."""
    return read_stored_bytes(db) + more - limits.max_size if limits.max_size else 0


def _measure_spare(db: sqlite3.Connection, folder: Path, limits: ParkedLimits) -> int:
    """Return the free bytes beyond `min_free`, on the disk and in the database; much without a limit."""
    if not limits.min_free:
        return 1 << 62
    return disk_usage(folder).free + measure_free(db) - limits.min_free


def _remove_by_size(db: sqlite3.Connection, size: int) -> list[RemovedParked]:
    return _remove(db, find_unreadable(db), size, "max_size") or _remove(db, find_unmarked(db), size, "max_size")


def _remove_by_room(db: sqlite3.Connection, size: int) -> list[RemovedParked]:
    return _remove(db, find_unreadable(db), size, "min_free")


def _remove(db: sqlite3.Connection, found: Iterable[tuple[int, int]], size: int, reason: Reason) -> list[RemovedParked]:
    """Remove about so many bytes of the found events (number, size), or a portion, and count them."""
    return remove_parked(db, choose_first(found, min(size, PORTION_BYTES)), reason)
