"""The files of relay.db: room for their log, and how the space of what was removed goes back to the file system.

All of it works in small transactions, so that cursors never wait long to be saved, and on a full disk: removing needs
no more than the room that `reserve_log` has set aside. Blocking.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.state.layout import DATABASE

VERSION: Final = 12
"""Of the database's tables (PRAGMA user_version)."""
LOCKED_S: Final = 10.0
"""How long to wait for another process's transaction."""
LOG_BYTES: Final = 6 << 20
"""Of the write-ahead log, set aside: more than a transaction here writes, with what waits for a checkpoint."""
PAGES_AT_ONCE: Final = 256
PAGES_KEPT: Final = 1024
"""Free pages that stay, for what is parked next."""
PAGES_TO_COPY: Final = 16_384
"""A database of an older relay is copied to get rid of its free pages, if the others are no more than these."""


class OlderTables(sqlite3.DatabaseError):
    """A database has the tables of an older relay. A start of this relay brings them up to date."""


def connect(folder: Path, mode: str) -> sqlite3.Connection:
    """Open the database of a state folder that some relay has run with: "ro" to look, "rw" to change."""
    path = folder / DATABASE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no relay has run with this state folder")
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=LOCKED_S, isolation_level=None)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        db.close()
        if version < VERSION:
            raise OlderTables(f"{path} is of an older relay; start the newer relay with it once")
        raise sqlite3.DatabaseError(f"{path} is of a newer relay")
    return db


def open_in_steps(db: sqlite3.Connection) -> None:
    """Set up a connection that removes much: a database that is new can give back single pages, and what is removed
    is overwritten only where that takes no further writing."""
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA secure_delete = FAST")


def reserve_log(path: Path) -> None:
    """Set aside room for the write-ahead log of the database at `path`, which somebody has open."""
    with suppress(OSError):
        log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(log, 0, LOG_BYTES)
        finally:
            os.close(log)


def free_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the database that nothing is in."""
    return _number(db, "freelist_count") * _number(db, "page_size")


def give_back(db: sqlite3.Connection) -> Iterator[None]:
    """Shrink the file by its free pages, but for PAGES_KEPT, step by step. Raises sqlite3.Error."""
    if not _number(db, "auto_vacuum"):
        yield from _copy(db)
        return
    while _number(db, "freelist_count") > PAGES_KEPT:
        db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")  # `execute` gives back one page
        _checkpoint(db)
        yield


def _copy(db: sqlite3.Connection) -> Iterator[None]:
    """Write a database anew, if that takes no second, and from then on it gives back single pages."""
    free = _number(db, "freelist_count")
    if free > PAGES_KEPT and _number(db, "page_count") - free <= PAGES_TO_COPY:
        db.execute("VACUUM")
        _checkpoint(db)
        yield


def _checkpoint(db: sqlite3.Connection) -> None:
    """Have what the log holds be in the file, and the log begin anew, as far as nobody reads and there is room."""
    with suppress(sqlite3.OperationalError):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
