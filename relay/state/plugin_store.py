"""The stores of connectors: a SQLite file for each, `stores/CONNECTOR.TYPE.db` in the folder of a worker.

How it fails and recovers:

- Each store has a file and a thread of its own. A store that is large, locked or damaged delays neither the cursors in
  relay.db nor another connector.
- A write is one transaction, synced before it returns. After a crash the write is there as a whole, or not at all.
- A store is opened at its first use. If that fails, the next use tries again.
- `purge` rewrites the file without deleted data, and empties the log of SQLite. A process that reads the store prevents
  that: `purge` then fails, and has to be called again.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

from relay.api import StoreError, StoreReader
from relay.api.internal import LeftBehind, Threads, check_write, find_key_range
from relay.journal import sync_folder
from relay.state.database_file import LOCKED_S, connect_file, overwrite_deleted
from relay.state.layout import make_worker_folder

T = TypeVar("T")

STORES: Final = "stores"
VERSION: Final = 1
"""The version of the table (PRAGMA user_version)."""
KEYS_AT_ONCE: Final = 500
"""Keys of one statement: each statement, and each row of it, costs microseconds."""
PAIRS_AT_ONCE: Final = 10_000
"""Pairs of one transaction, while all stores are written."""
CACHE_KIB: Final = 16 << 10
"""Memory for pages of a large store: what is read before a write is not read again for the write."""
LOG_BYTES: Final = 6 << 20
"""The log of SQLite shrinks to this size after a large write."""
MAKE: Final = f"""
    BEGIN;
    CREATE TABLE IF NOT EXISTS pair (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
    COMMIT;
"""
GET: Final = "SELECT key, value FROM pair WHERE key IN"
PUT: Final = "REPLACE INTO pair VALUES (?, ?)"
DELETE: Final = "DELETE FROM pair WHERE key IN"
SCAN: Final = "SELECT key, value FROM pair WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
SCAN_TO_END: Final = "SELECT key, value FROM pair WHERE key >= ? ORDER BY key LIMIT ?"
DENIED: Final = "this user may not use it: be root, or the user that relay runs as"
DAMAGED: Final = (
    "it is damaged: stop relay, and put the file of a backup in its place, or move it away;"
    " without it the connector begins anew"
)
ADVICE: Final = {
    sqlite3.SQLITE_FULL: "make room on its file system",
    sqlite3.SQLITE_BUSY: "another process holds it: find that by fuser, and end it",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CANTOPEN: DENIED,
    sqlite3.SQLITE_PERM: DENIED,
    sqlite3.SQLITE_READONLY: DENIED,
    sqlite3.SQLITE_IOERR: "the disk fails, or is full: look at the log of the kernel",
}
"""What to do, by the primary result code of SQLite."""


class StoreFile:
    """The store of a connector, a `relay.api.KeyValueStore`."""

    def __init__(self, folder: Path, type: str, connector: str, under_way: LeftBehind | None = None) -> None:
        """`folder`: the folder of the worker. `under_way` gets all work until it is done. Opens nothing yet."""
        self._path, self._connector = make_store_file(folder, type, connector), connector
        self._under_way = under_way
        self._opened: tuple[Threads, _Pairs] | None = None

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""
        wanted = [*keys]
        return await self._run(lambda pairs: pairs.get(wanted))

    async def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """Return the first `limit` keys behind `after` that begin with `prefix`, with their values, in order."""
        return await self._run(lambda pairs: [*pairs.scan(prefix, after, limit)])

    async def write(self, puts: Mapping[bytes, bytes] | None = None, deletes: Iterable[bytes] = ()) -> None:
        """Put and delete keys, all or nothing, durably. Raises ValueError for pairs that no store takes."""
        come, gone = sorted((puts or {}).items()), sorted(deletes)
        check_write(puts or {}, gone)
        await self._run(lambda pairs: pairs.write(come, gone))

    async def purge(self) -> None:
        """Overwrite in the files what was deleted before."""
        await self._run(_Pairs.purge)

    async def close(self) -> None:
        """Finish what runs, and close the files. The next use opens them again."""
        if opened := self._opened:
            (threads, pairs), self._opened = opened, None
            try:
                await threads.run(pairs.close)
            finally:
                threads.close()

    async def _run(self, work: "Callable[[_Pairs], T]") -> T:
        """Do work in the store's thread. A cancellation drops only work that has not begun."""
        if self._opened is None:
            self._opened = Threads(f"store {self._connector}", 1, self._under_way), _Pairs(self._path)
        threads, pairs = self._opened
        return await threads.run(work, pairs)


class EmbeddedStores:
    """The stores of a state folder, read from outside: `relay.api.Stores`."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def list_connectors(self, type: str, *, worker: int = 0) -> list[str]:
        """Return the names of all connectors of a type that have a store, in order."""
        files = make_store_file(make_worker_folder(self._state, worker), type, "*")
        return sorted(path.name.partition(".")[0] for path in files.parent.glob(files.name))

    @contextmanager
    def read(self, type: str, connector: str, *, worker: int = 0) -> Iterator[StoreReader]:
        """Open a store to read, as of one moment. Raises StoreError."""
        path = make_store_file(make_worker_folder(self._state, worker), type, connector)
        with closing(_Snapshot(path)) as reader:
            yield reader


def make_store_file(folder: Path, type: str, connector: str) -> Path:
    """Return the file of a store."""
    return folder / STORES / f"{connector}.{type}.db"


def remove_stores(folder: Path, connector: str) -> None:
    """Remove the stores of a connector that does not run, of whatever type it was. Blocking. Raises OSError."""
    for path in sorted((folder / STORES).glob(f"{connector}.*.db*"), reverse=True):  # a log before its database
        path.unlink()


def read_stores(folder: Path) -> Iterator[tuple[str, str, bytes, bytes]]:
    """Yield the pairs of all stores of a worker: connector, type, key, value. Blocking. Raises StoreError."""
    for path in sorted((folder / STORES).glob("*.*.db")):
        connector, kind, _ = path.name.split(".", 2)
        with closing(_Snapshot(path)) as reader:
            for key, value in reader.scan(b""):
                yield connector, kind, key, value


def write_stores(folder: Path, pairs: Iterable[tuple[str, str, bytes, bytes]]) -> None:
    """Put pairs, as `read_stores` yields them, in place of all stores of a worker. Blocking. Raises StoreError,
    OSError."""
    for path in sorted((folder / STORES).glob("*.*.db*"), reverse=True):  # a log before its database
        path.unlink()
    for (connector, kind), rows in groupby(pairs, itemgetter(0, 1)):
        with closing(_Pairs(make_store_file(folder, kind, connector))) as store:
            while some := [(key, value) for *_, key, value in islice(rows, PAIRS_AT_ONCE)]:
                store.write(some, ())


class _Pairs:
    """A file of keys and values, opened at its first use. Blocking. All methods raise StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._use() as db:
            return dict(chain.from_iterable(_execute(db, GET, keys)))

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        with self._use() as db:
            return _scan(db, prefix, after, limit).fetchall()

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        with self._use() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                for done in _execute(db, DELETE, deletes):
                    done.close()
                db.executemany(PUT, puts)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def purge(self) -> None:
        with self._use() as db:
            is_overwritten = overwrite_deleted(db)
        if not is_overwritten:
            raise StoreError(f"{self._path}: another process is reading it, so that deleted data cannot be overwritten")

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with _convert_errors(self._path):
            if self._db is None:
                self._db = self._open()
            yield self._db

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._path.touch(mode=0o600)  # whose data a connector keeps is its own affair
            for folder in (self._path.parent, self._path.parents[1]):
                sync_folder(folder)
        db = sqlite3.connect(self._path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if _read_version(db, self._path) == 0:
                db.executescript(MAKE)
        except BaseException:
            db.close()
            raise
        return db


class _Snapshot:
    """A store as of the moment it was opened. Blocking. All methods raise StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _convert_errors(path):
            if not path.exists():
                raise StoreError(f"{path}: there is no such store")
            self._db = connect_file(path, "ro")
            try:
                self._db.execute("BEGIN")
                self._is_empty = _read_version(self._db, path) == 0  # which is read, and begins the snapshot
            except BaseException:
                self._db.close()
                raise

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        with _convert_errors(self._path):
            rows = () if self._is_empty else chain.from_iterable(_execute(self._db, GET, [*keys]))
            return dict(rows)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with _convert_errors(self._path):
            yield from () if self._is_empty else _scan(self._db, prefix, after, -1)

    def close(self) -> None:
        self._db.close()


def _execute(db: sqlite3.Connection, statement: str, keys: Sequence[bytes]) -> Iterator[sqlite3.Cursor]:
    """Execute a statement for some keys at a time."""
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        yield db.execute(f"{statement} ({', '.join('?' * len(some))})", some)


def _scan(db: sqlite3.Connection, prefix: bytes, after: bytes, limit: int) -> sqlite3.Cursor:
    """Select at most `limit` pairs; a negative limit is none."""
    start, stop = find_key_range(prefix, after)
    if stop is None:
        return db.execute(SCAN_TO_END, (start, limit))
    return db.execute(SCAN, (start, stop, limit))


def _read_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the table; 0: there is none yet. Raises StoreError for a version of a newer relay."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(f"{path}: it is of a newer relay: use that, or restore the backup from before its upgrade")
    return int(version)


@contextmanager
def _convert_errors(path: Path) -> Iterator[None]:
    """Raise StoreError for what SQLite and the system say, with what an admin can do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
        raise StoreError(f"{path}: {error}; {ADVICE.get(code, DAMAGED)}") from error
    except StoreError:
        raise
    except PermissionError as error:
        raise StoreError(f"{path}: {error.strerror}; {DENIED}") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
