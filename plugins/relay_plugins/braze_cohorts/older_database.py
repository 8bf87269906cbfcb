"""Takes over the database of an older relay, `cohorts/CONNECTOR.db` in the state folder, into the store.

How it fails and recovers: the database is copied in portions, each with a note of where it ends. After a kill the next
start goes on from there. The records of the cohorts come last, with the note that all is there: up to then nobody sees
a cohort. Then the database is removed, and last the note. A database that is not the noted one is newer than the store,
because an older relay has run in between: it replaces what is in the store.
"""

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

import msgspec

from relay.api import KeyValueStore
from relay_plugins.braze_cohorts.change import LONGEST_ID
from relay_plugins.braze_cohorts.keys import (
    ASKED,
    MEMBER,
    PART,
    SLUG,
    TOLD,
    CohortRecord,
    SyncPart,
    encode_offset,
    make_key,
    make_part_pair,
    make_record_pair,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NOTE: Final = make_key("older database")
"""The key of the `Progress`."""
KEYS: Final = {
    MEMBER: ("cohort", "kind", "id"),
    TOLD: ("cohort", "kind", "id"),
    ASKED: ("cohort", "kind", "id"),
    PART: ("cohort", "task", "page", "part"),
}
"""The primary keys of the tables that may be large."""
VALUES: Final = {MEMBER: "offset", TOLD: "offset", ASKED: "target", PART: "parts, offset"}
ROWS: Final = 5000
"""Rows of a portion."""
FITS: Final = {
    table: f"length(CAST({' || '.join(keys)} AS BLOB)) <= {len(keys) * LONGEST_ID}" for table, keys in KEYS.items()
}
"""Conditions. A row with a longer key names nobody in any Braze, and is left out."""
RECORDS: Final = {
    "cohort": (
        f"SELECT id, substr(name, 1, {LONGEST_ID}), created, synced, task FROM cohort",  # noqa: S608
        *("name", "created", "synced", "task"),
    ),
    "member": (f"SELECT cohort, count(*) FROM member WHERE {FITS[MEMBER]} GROUP BY cohort", "members"),  # noqa: S608
    "target": ("SELECT cohort, target FROM target", "target"),
    "left_out": ("SELECT cohort, users FROM left_out", "left_out"),
    "error": ("SELECT cohort, count, last FROM error", "errors", "last_error"),
    "slug": ("SELECT cohort, slug FROM slug", "slug"),
}
"""Queries for cohorts, and the fields of their records, by table."""
BUSY_S: Final = 10.0
ADVICE: Final = (
    "if it is damaged, restore it, or move it away and have the source send each membership as a whole (a full sync)"
)


class Progress(msgspec.Struct):
    """How far a database is taken over."""

    size: int
    changed: int
    """Bytes and time of the database."""
    table: str = ""
    """The table under way; empty: the store is being emptied."""
    after: Sequence[str | int] = ()
    """The primary key of the last row that is in the store; empty: no row of the table is."""
    is_complete: bool = False


class RunBlocking(Protocol):
    """Runs work that blocks in a thread."""

    async def __call__(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Return the result of the work."""


def find_older_database(state: Path, connector: str) -> Path:
    """Return the place of the database of a connector."""
    return state / "cohorts" / f"{connector}.db"


async def take_over(path: Path, store: KeyValueStore, target: str, run_blocking: RunBlocking) -> bool:
    """Take over a database if there is one; return whether there was. `target` as in `CohortStore`. Raises OSError."""
    found = await store.get([NOTE])
    progress = msgspec.json.decode(found[NOTE], type=Progress) if found else None
    there = await run_blocking(_measure, path)
    if there is None:
        if progress:
            if not progress.is_complete:  # somebody has removed the database
                await _empty(store)
            await store.write(deletes=[NOTE])
        return False
    if progress is None or (progress.size, progress.changed) != there:
        progress = Progress(*there)
        await store.write({NOTE: msgspec.json.encode(progress)})
    if not progress.is_complete:
        await _copy(path, store, progress, run_blocking)
        records = await run_blocking(_read_records, path, target)
        progress.is_complete = True
        await store.write(records | {NOTE: msgspec.json.encode(progress)})
    await run_blocking(_remove, path)
    await store.write(deletes=[NOTE])
    return True


async def _copy(path: Path, store: KeyValueStore, progress: Progress, run_blocking: RunBlocking) -> None:
    """Copy the large tables from where they are copied so far."""
    if not progress.table:
        await _empty(store)
    tables = [*KEYS]
    for table in tables[tables.index(progress.table or MEMBER) :]:
        progress.table = table
        while rows := await run_blocking(_read_rows, path, table, progress.after):
            progress.after = rows[-1][: len(KEYS[table])]
            await store.write(dict(_make_pair(table, *row) for row in rows) | {NOTE: msgspec.json.encode(progress)})
        progress.after = ()


async def _empty(store: KeyValueStore) -> None:
    """Delete everything but the note, which says that this is not done yet."""
    after = b""
    while page := await store.scan(b"", after=after):
        after = page[-1][0]
        await store.write(deletes=[key for key, _ in page if key != NOTE])


def _measure(path: Path) -> tuple[int, int] | None:
    """Fold the log of a database into its file, and return size and time of the file; None if there is no database."""
    if not path.exists():
        return None
    with _open(path, "rw") as db:
        db.execute("PRAGMA journal_mode = DELETE")
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _read_rows(path: Path, table: str, after: Sequence[str | int]) -> Sequence[tuple[Any, ...]]:
    """Return the next portion of a table."""
    keys, follows = ", ".join(KEYS[table]), "true"
    if after:
        follows = f"({keys}) > ({', '.join('?' * len(after))})"
    query = (
        f"SELECT {keys}, {VALUES[table]} FROM {table}"  # noqa: S608
        f" WHERE {FITS[table]} AND {follows} ORDER BY {keys} LIMIT {ROWS}"
    )
    with _open(path, "ro") as db:
        return db.execute(query, after).fetchall() if table in _list_tables(db) else ()


def _make_pair(table: str, cohort: str, *row: Any) -> tuple[bytes, bytes]:
    if table == PART:
        return make_part_pair(cohort, SyncPart(*row))
    *user, value = row
    return make_key(table, cohort, *user), value.encode() if table == ASKED else encode_offset(value)


def _read_records(path: Path, target: str) -> dict[bytes, bytes]:
    """Return the pairs of all cohorts. A cohort without a target, by a much older relay, belongs to `target`."""
    records, pairs = defaultdict[str, CohortRecord](CohortRecord), dict[bytes, bytes]()
    with _open(path, "ro") as db:
        tables = _list_tables(db)
        for table, (query, *fields) in RECORDS.items():
            for cohort, *values in db.execute(query) if table in tables else ():
                for field, value in zip(fields, values, strict=True):
                    setattr(records[cohort], field, value)
    for cohort, record in records.items():
        if record.name is not None and record.target is None:
            record.target = target
        pairs |= make_record_pair(cohort, record)
        if record.slug:
            pairs[make_key(SLUG, record.slug)] = cohort.encode()
    return pairs


def _list_tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _remove(path: Path) -> None:
    """Remove a database for good, and its folder if no other database is there."""
    for file in (path, *path.parent.glob(f"{path.name}-*")):
        file.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    with suppress(OSError):
        path.parent.rmdir()


@contextmanager
def _open(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open a database. Raises OSError for whatever SQLite says."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S)) as db:
            yield db
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}; {ADVICE}") from error
