"""The files of relay.db: room for the log, the way of freed space back to the file system, and what goes wrong there.

Everything here works in small transactions, so that cursors never wait long to be saved. It also works on a full disk:
removals need only the room that `reserve_log` has set aside. Blocking.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from relay.state.layout import DATABASE
from relay.store import Unavailable, UnavailableReason, find_disk_reason
from relay.words import describe_error

VERSION: Final = 12
"""The version of the tables (PRAGMA user_version)."""
LOCKED_S: Final = 10.0
"""Seconds to wait for another process's transaction."""
LOG_BYTES: Final = 6 << 20
"""Bytes set aside for the write-ahead log: more than a transaction and what waits for a checkpoint."""
PAGES_AT_ONCE: Final = 256
PAGES_KEPT: Final = 1024
"""Free pages that stay for the next parked events."""
PAGES_TO_COPY: Final = 16_384
"""Used pages of an older relay's database, at most, for a copy that frees its other pages."""
REASONS_BY_CODE: Final[dict[int, UnavailableReason]] = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


class OlderTables(sqlite3.DatabaseError):
    """Raised when a database has the tables of an older relay. A start of this relay updates them."""


def connect(folder: Path, mode: str) -> sqlite3.Connection:
    """Open the database of a state folder that some relay has run with: "ro" to read, "rw" to change."""
    path = folder / DATABASE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no relay has run with this state folder")
    db = connect_file(path, mode)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < VERSION:
            raise OlderTables(f"{path} is of an older relay; start the newer relay with it once")
        if version > VERSION:
            raise sqlite3.DatabaseError(f"{path} is of a newer relay")
    except sqlite3.Error:
        db.close()
        raise
    return db


def connect_file(path: Path, mode: str) -> sqlite3.Connection:
    """Open any database that exists: "ro" to read, "rw" to change. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=LOCKED_S, isolation_level=None)


def enable_shrinking(db: sqlite3.Connection) -> None:
    """Make a connection able to shrink the file.

    A new database can free single pages. Removed data is overwritten only where that takes no further writing.
    """
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA secure_delete = FAST")


def reserve_log(path: Path) -> None:
    """Set aside room for the write-ahead log of the database at `path`, which is open somewhere."""
    with suppress(OSError):
        log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(log, 0, LOG_BYTES)
        finally:
            os.close(log)


def measure_free(db: sqlite3.Connection) -> int:
    """Return the free bytes of the database."""
    return _read_number(db, "freelist_count") * _read_number(db, "page_size")


def read_data_version(db: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has written."""
    return _read_number(db, "data_version")


def shrink_in_steps(db: sqlite3.Connection) -> Iterator[None]:
    """Shrink the file by its free pages except PAGES_KEPT, step by step. Raises sqlite3.Error."""
    if not _read_number(db, "auto_vacuum"):
        # Rewrite a small database so that it can free single pages from then on
        free = _read_number(db, "freelist_count")
        if free > PAGES_KEPT and _read_number(db, "page_count") - free <= PAGES_TO_COPY:
            db.execute("VACUUM")
            _checkpoint(db)
            yield
        return
    while _read_number(db, "freelist_count") > PAGES_KEPT:
        db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")  # `execute` gives back one page
        _checkpoint(db)
        yield


def overwrite_deleted(db: sqlite3.Connection) -> bool:
    """Overwrite removed data in the files; return False if a reader prevented it, and it must be repeated.

    Raises sqlite3.Error.
    """
    db.execute("VACUUM")
    (is_busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


def _checkpoint(db: sqlite3.Connection) -> None:
    """Move the log into the file and begin the log anew, as far as readers and room allow."""
    with suppress(sqlite3.OperationalError):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _read_number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


@contextmanager
def convert_errors() -> Iterator[None]:
    """Raise as Unavailable what goes wrong with SQLite and files in the body."""
    try:
        yield
    except Unavailable:
        raise
    except sqlite3.Error as error:
        raise Unavailable(str(error), find_reason(error)) from error
    except PermissionError as error:
        what = error.filename or "the state folder"
        said = f"{what} may not be read by this user: be root, or the user that relay runs as"
        raise Unavailable(said, "denied") from error
    except OSError as error:
        raise Unavailable(describe_error(error), find_disk_reason(error)) from error


def find_reason(error: sqlite3.Error) -> UnavailableReason:
    """Return what callers must know of an error of SQLite."""
    if isinstance(error, OlderTables):
        return "older"
    return REASONS_BY_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
