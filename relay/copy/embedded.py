"""A state folder as a side of a copy.

How it fails and recovers:

- A segment is written beside its place, synced, and put there in one step. Only then its version is noted in the file
  `copied` of the journal's folder. A segment without its version is copied again.
- A database is made anew beside its place, and put there in one step, once all that is kept in files is there.
- The locks of the journals keep two copies apart.
- While the file `barred` is in the state folder, no relay starts there.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from relay.copy.contract import FIRST_NUMBERED, NUMBERED, LogPart, Row, Table, quote
from relay.journal import (
    FRESH,
    StoredRecord,
    describe_mismatch,
    encode_stored,
    is_locked,
    list_segment_files,
    lock,
    make_path,
    mark_compressed,
    parse_base,
    put_in_place,
    read_holder,
    read_identity,
    read_seen,
    read_stored,
    replace_text,
    sync_folder,
    write_anew,
    write_end,
    write_identity,
    write_seen,
)
from relay.state import (
    BAR,
    DATABASE,
    SEEN,
    StateFolder,
    connect,
    convert_errors,
    enable_shrinking,
    find_bar,
    find_missing_end,
    give_ownership,
    list_journals,
    make_journal_folder,
    make_tables,
    make_worker_folder,
    read_acknowledged,
    read_cuts,
    read_known_journal,
    read_stores,
    write_cuts,
    write_stores,
)
from relay.store import Unavailable

COPIED: Final = "copied"
"""The file in a journal's folder that names the copied segments, a line each: base and version. The last line of a base
counts."""
FILES: Final[Mapping[str, Sequence[str]]] = {
    "cut": ("connector", "part", "number", "line"),
    "plugin_store": ("connector", "type", "key", "value"),
    "seen": ("source", "digest", "at"),
}
"""The columns of what a state folder keeps in files."""
OWN: Final = ("one", "identity")
"""Columns that other engines lack: of tables with a single row, and the id of the journal."""


class EmbeddedSide:
    """A state folder. See `relay.copy.contract.Side`."""

    name = "embedded"

    def __init__(self, state: Path, path: Path) -> None:
        """`path`: the setting `journal.path`."""
        self._state, self._path = state, path
        self.place = f"the state folder {state}"
        self.release = f"rm {state / BAR}"
        self.store = StateFolder(state, path)
        self._locks: dict[int, int] = {}
        """The descriptors that keep other copies out of the journals here, by partition."""

    def close(self) -> None:
        while self._locks:
            os.close(self._locks.popitem()[1])

    def _folder(self, partition: int) -> Path:
        return make_worker_folder(self._state, partition)

    def _journal(self, partition: int) -> Path:
        return make_journal_folder(self._state, self._path, partition)

    @convert_errors()
    def list_partitions(self) -> list[int]:
        found = list_journals(self._state, self._path).items()
        return [number for number, (folder, journal) in found if _is_used(folder, journal)]

    def count_room(self) -> None:
        return None

    @convert_errors()
    def read_identity(self, partition: int) -> str:
        return read_identity(self._journal(partition)) or ""

    @convert_errors()
    def read_bar(self) -> str:
        return find_bar(self._state)

    @convert_errors()
    def bar(self, why: str) -> None:
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_text(self._state / BAR, f"{why}\n")
        give_ownership([self._state / BAR], self._state)

    @convert_errors()
    def unbar(self) -> None:
        for number in self.list_partitions():
            folder, journal = self._folder(number), self._journal(number)
            write_end(journal, read_acknowledged(folder))
            (journal / COPIED).unlink(missing_ok=True)
            give_ownership([folder, *folder.rglob("*"), journal, *journal.rglob("*")], self._state)
        (self._state / BAR).unlink(missing_ok=True)
        sync_folder(self._state)
        self.close()

    @contextmanager
    def hold(self) -> Iterator[None]:
        with ExitStack() as held:
            for number in self.list_partitions():
                with convert_errors():
                    held.enter_context(_hold(self._folder(number), self._journal(number)))
            yield

    @convert_errors()
    def list_parts(self, partition: int) -> list[LogPart]:
        found = []
        for path in list_segment_files(self._journal(partition)):
            with suppress(FileNotFoundError):  # retention has just removed it
                about = path.stat()
                found.append(LogPart(parse_base(path), f"{about.st_ino}.{about.st_size}.{about.st_ctime_ns}"))
        return found

    def read_part(self, partition: int, base: int) -> Iterator[StoredRecord]:
        with convert_errors(), suppress(FileNotFoundError):
            yield from read_stored(make_path(self._journal(partition), base))

    @convert_errors()
    def count_rows(self, partition: int, table: str) -> int:
        if table in FILES:
            return sum(1 for _ in self._read_files(partition, table))
        with closing(connect(self._folder(partition), "ro")) as db:
            (found,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  a name of ours
        return int(found)

    def list_columns(self, table: str) -> Sequence[str]:
        return FILES.get(table) or [name for name in self._columns[table] if name not in OWN]

    @cached_property
    def _columns(self) -> Mapping[str, Sequence[str]]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            make_tables(db, 0)
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return {one: [row[1] for row in db.execute(f"PRAGMA table_info({one})")] for one in tables}

    def read_rows(self, partition: int, table: str, columns: Sequence[str]) -> Iterator[Row]:
        with convert_errors():
            if table in FILES:
                yield from self._read_files(partition, table)
            else:
                with closing(connect(self._folder(partition), "ro")) as db:
                    yield from db.execute(f"SELECT {quote(columns)} FROM {table}")  # noqa: S608  names of ours

    def _read_files(self, partition: int, table: str) -> Iterator[Row]:
        folder = self._folder(partition)
        match table:
            case "cut":
                return read_cuts(folder, self.read_identity(partition))
            case "plugin_store":
                return read_stores(folder)
            case _:
                return read_seen(folder / SEEN)

    @convert_errors()
    def read_numbers(self, partition: int) -> Mapping[str, int]:
        with closing(connect(self._folder(partition), "ro")) as db:
            found = db.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        return {name: seq for name, seq in found if name in NUMBERED or (name in FIRST_NUMBERED and not partition)}

    @convert_errors()
    def adopt(self, partition: int, identity: str) -> None:
        for folder in (self._folder(partition), self._journal(partition)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if partition not in self._locks:
            self._locks[partition] = lock(self._journal(partition))
        write_identity(self._journal(partition), identity)

    @convert_errors()
    def list_copied(self, partition: int) -> Mapping[int, str]:
        journal = self._journal(partition)
        try:
            lines = (journal / COPIED).read_text().splitlines()
        except FileNotFoundError:
            return {}
        noted = {int(base): version for base, version in (line.split(" ", 1) for line in lines if " " in line)}
        return {base: noted.get(base, "") for base in map(parse_base, list_segment_files(journal))}

    @convert_errors()
    def put_part(self, partition: int, part: LogPart, records: Iterable[StoredRecord]) -> None:
        journal = self._journal(partition)
        path, salt, newest = make_path(journal, part.base), secrets.randbits(32), 0

        def encode() -> Iterator[bytes]:
            nonlocal newest
            for record in records:
                if record.is_compressed:
                    mark_compressed(journal)
                newest = max(newest, record.received_us)
                yield encode_stored(record, salt)

        fresh = write_anew(path, salt, encode())
        if newest:
            os.utime(fresh, ns=(newest * 1000, newest * 1000))  # by which a start knows how old its events are
        put_in_place(fresh, path)
        with (journal / COPIED).open("a") as noted:
            noted.write(f"{part.base} {part.version}\n")

    @convert_errors()
    def remove_part(self, partition: int, base: int) -> None:
        make_path(self._journal(partition), base).unlink(missing_ok=True)

    @convert_errors()
    def put_state(self, partition: int, tables: Iterable[Table], numbers: Mapping[str, int]) -> None:
        folder, identity = self._folder(partition), self.read_identity(partition)
        fresh = folder / f"{DATABASE}{FRESH}"
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)  # parked events are personal data
        with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
            enable_shrinking(db)
            make_tables(db, partition)
            db.execute("BEGIN")
            for table in tables:
                self._put_table(db, folder, identity, table)
            for name, last in numbers.items():
                db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
                db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))
            db.execute("COMMIT")
        for suffix in ("-wal", "-shm"):
            (folder / f"{DATABASE}{suffix}").unlink(missing_ok=True)
        put_in_place(fresh, folder / DATABASE)

    def _put_table(self, db: sqlite3.Connection, folder: Path, identity: str, table: Table) -> None:
        match table.name:
            case "cut":
                write_cuts(folder, identity, table.rows)
            case "plugin_store":
                write_stores(folder, table.rows)
            case "seen":
                write_seen(folder / SEEN, table.rows)
            case "journal_state":
                _insert(db, table.name, [*table.columns, "identity"], ((*row, identity) for row in table.rows))
            case _:
                _insert(db, *table)


def _is_used(folder: Path, journal: Path) -> bool:
    return (folder / DATABASE).exists() or bool(list_segment_files(journal))


@contextmanager
def _hold(folder: Path, journal: Path) -> Iterator[None]:
    """Lock a worker's folders, whose journal must be whole. Raises Unavailable, OSError, sqlite3.Error."""
    for one in (folder, journal):
        if is_locked(one):
            raise Unavailable(f"a relay works with {one} (process {read_holder(one)}): stop relay first", "busy")
    with closing(connect(folder, "ro")) as db:
        why = describe_mismatch(journal, read_known_journal(db))
    if why := why or find_missing_end(folder, journal):
        raise Unavailable(f"{why}; start relay once, and stop relay again")
    with ExitStack() as held:
        for one in (folder, journal):
            held.callback(os.close, lock(one))
        yield


def _insert(db: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    places = ", ".join("?" * len(columns))
    db.executemany(f"INSERT INTO {table} ({quote(columns)}) VALUES ({places})", rows)  # noqa: S608  names of ours
