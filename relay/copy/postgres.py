"""A schema in PostgreSQL as a side of a copy.

How it fails and recovers:

- A segment's table, its row and its version are made in one transaction. So is all that a partition knows beside its
  events.
- Each of these transactions first locks the row of the cluster: two copies at a time wait for each other.
- While the cluster is barred, no relay joins it. A relay that works with it all the same has left traces: the signs of
  life of its process, leases, changes and events. The bar is refused then.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

import psycopg

from relay.config import JournalSettings
from relay.copy.contract import NUMBERED, LogPart, Row, Table, quote
from relay.journal import StoredRecord, compute_crc
from relay.postgres import (
    Database,
    Lasting,
    PostgresConnection,
    PostgresStore,
    check_tables,
    find_database,
    make_table,
)
from relay.store import NUMBERS, Unavailable

DEADLINE_S: Final = 600.0
"""Seconds for a statement. Some of them work with a whole table."""
OWN: Final = frozenset({"partition", "mark", ("attempt", "number"), ("cursor", "begun")})
"""Columns that tell a place in this engine, alone or in one table."""
COLUMNS: Final = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = (parse_ident(%s))[1] AND is_generated = 'NEVER' ORDER BY table_name, ordinal_position
"""
ORDERS: Final[Mapping[str, str]] = {
    "attempt": " ORDER BY number",
    "cut": " ORDER BY connector, part, number",
    "plugin_store": " ORDER BY connector, type, key",
    "seen": " ORDER BY source",
    "source": " ORDER BY name, failing_since, partition",
    "source_memory": " ORDER BY name, partition",
}
"""The order of rows, where that matters to the other side."""
BY_PROCESS: Final = ("source", "source_memory")
"""The tables of which each process has rows. A state folder has no place for processes beyond the partitions: the first
partition gets what they have counted, and the row that matters most."""
DUPLICATES: Final = "sum(duplicates) OVER (PARTITION BY name)::bigint"
SEQUENCES: Final[Mapping[str, str]] = {
    "erasure": "$.erasure_number",
    "history": "$.history_number_seq",
    "alert_message": "$.alert_message_number_seq",
}
"""The sequences of numbers that the first partition has for all."""
BLOCK_TYPES: Final = ("int8", "int4", "int8", "bytea", "bytea", "int8")
WORKING: Final = """
    SELECT format('node %s (process %s on %s)', node, process, host) FROM $.node WHERE until > clock_timestamp() LIMIT 1
"""
TRACES: Final = """
    SELECT (SELECT sum(epoch) FROM $.lease), (SELECT sum(changes) FROM $.partition), (SELECT max(seen) FROM $.node)
"""
PARTS: Final = """
    SELECT base, name, coalesce(stop, (SELECT stop FROM $.find_end(partition))) FROM $.segment
    WHERE partition = %s ORDER BY number
"""
PUT: Final = """
    INSERT INTO $.segment AS known (partition, number, name, base, stop, size, received)
    SELECT %(partition)s, coalesce(%(number)s, nextval('$.segment_number')), %(name)s, %(base)s, max(base + events),
        pg_total_relation_size(to_regclass('$.' || %(name)s)), max(received)
    FROM $.{name}
    ON CONFLICT (partition, number) DO UPDATE
    SET name = excluded.name, stop = excluded.stop, size = excluded.size, received = excluded.received
"""
NOTE: Final = """
    INSERT INTO $.copied (partition, base, version) VALUES (%s, %s, %s)
    ON CONFLICT (partition, base) DO UPDATE SET version = excluded.version
"""
CONTINUE: Final = """
    UPDATE $.segment SET stop = NULL, size = NULL
    WHERE (partition, number) IN (SELECT partition, max(number) FROM $.segment GROUP BY partition)
"""


class PostgresSide:
    """The tables of a cluster. See `relay.copy.contract.Side`."""

    name = "postgres"

    def __init__(self, database: Database, store: PostgresStore) -> None:
        self.place, self.store, self._database = database.place, store, database
        self.release = f"UPDATE {database.schema}.cluster SET barred = ''"  # noqa: S608  for an admin
        self._reading, self._writing = Lasting(database, DEADLINE_S), Lasting(database, DEADLINE_S)
        self._traces: object = None
        """What whoever works with the cluster would have changed since `hold`; None before."""

    def close(self) -> None:
        for one in (self._reading, self._writing, self._database, self.store):
            one.close()

    def _read(self, query: str, *values: object) -> list[Row]:
        with self._reading.use() as db:
            return db.run(query, values or None).fetchall()

    @contextmanager
    def _write(self) -> Iterator[PostgresConnection]:
        """Run the body as one transaction of this copy alone."""
        with self._writing.use() as db, db.transaction_of("SELECT FROM $.cluster FOR UPDATE;"):
            yield db

    def list_partitions(self) -> list[int]:
        found = self._read("""
            SELECT partition FROM $.lease WHERE epoch > 0 UNION SELECT partition FROM $.segment ORDER BY partition
        """)
        return [partition for (partition,) in found]

    def count_room(self) -> int:
        ((found,),) = self._read("SELECT count(*) FROM $.partition")
        return int(found)

    def read_identity(self, partition: int) -> str:
        ((identity,),) = self._read("SELECT identity FROM $.partition WHERE partition = %s", partition)
        return str(identity)

    def read_bar(self) -> str:
        ((why,),) = self._read("SELECT barred FROM $.cluster")
        return str(why)

    def bar(self, why: str) -> None:
        with self._write() as db:
            db.run("UPDATE $.cluster SET barred = %s", [why])
            self._check_alone(db)
            if self._traces not in (None, db.run(TRACES).fetchone()):
                raise Unavailable(f"a relay has worked with {self.place} meanwhile: begin the last pass again", "busy")

    def _check_alone(self, db: PostgresConnection) -> None:
        if found := db.run(WORKING).fetchone():
            raise Unavailable(f"{found[0]} works with {self.place}: stop it first", "busy")

    def unbar(self) -> None:
        with self._write() as db:
            db.run(CONTINUE)
            db.run("DELETE FROM $.copied")
            db.run("UPDATE $.cluster SET barred = ''")

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._reading.use() as db:
            self._check_alone(db)
            self._traces = db.run(TRACES).fetchone()
        try:
            yield
        finally:
            self._traces = None

    def list_parts(self, partition: int) -> list[LogPart]:
        return [LogPart(base, f"{name}.{stop}") for base, name, stop in self._read(PARTS, partition)]

    def read_part(self, partition: int, base: int) -> Iterator[StoredRecord]:
        with self._reading.use() as db:
            if found := _find_segment(db, partition, base):
                rows = f"SELECT base, events, received, meta, body, crc FROM $.{found[1]} ORDER BY base"  # noqa: S608
                with suppress(psycopg.errors.UndefinedTable):  # retention has just removed it
                    for *row, crc in _stream(db, rows, binary=True):
                        record = StoredRecord(*row)
                        if crc == compute_crc(record.meta, record.body, record.events):
                            yield record

    def count_rows(self, partition: int, table: str) -> int:
        counted = "DISTINCT name" if table in BY_PROCESS else "*"
        ((found,),) = self._read(f"SELECT count({counted}) FROM $.{table}{self._where(partition, table)}")  # noqa: S608
        return int(found)

    def list_columns(self, table: str) -> Sequence[str]:
        return [name for name in self._columns[table] if name not in OWN and (table, name) not in OWN]

    @cached_property
    def _columns(self) -> Mapping[str, Sequence[str]]:
        found = defaultdict[str, list[str]](list)
        for table, name in self._read(COLUMNS, self._database.schema):
            found[table].append(name)
        return found

    def _where(self, partition: int, table: str) -> str:
        if table in BY_PROCESS and not partition:
            return " WHERE partition = 0 OR partition NOT IN (SELECT partition FROM $.partition)"
        return f" WHERE partition = {partition:d}" if "partition" in self._columns[table] else ""

    def read_rows(self, partition: int, table: str, columns: Sequence[str]) -> Iterator[Row]:
        select = f"SELECT {quote(columns)}"
        if table in BY_PROCESS:
            select = select.replace("SELECT ", "SELECT DISTINCT ON (name) ").replace('"duplicates"', DUPLICATES)
        with self._reading.use() as db:
            yield from _stream(db, f"{select} FROM $.{table}{self._where(partition, table)}{ORDERS.get(table, '')}")

    def read_numbers(self, partition: int) -> Mapping[str, int]:
        return {
            table: last
            for table, sequence in self._list_sequences(partition).items()
            for ((last,),) in [self._read(f"SELECT last_value - 1 + is_called::integer FROM {sequence}")]  # noqa: S608
        }

    def _list_sequences(self, partition: int) -> Mapping[str, str]:
        """Return the sequence that numbers each table."""
        own = {table: f"$.{table}_number_{partition}" for table in NUMBERED}
        return own if partition else {**own, **SEQUENCES}

    def adopt(self, partition: int, identity: str) -> None:
        with self._write() as db:
            db.run("UPDATE $.partition SET identity = %s WHERE partition = %s", [identity, partition])
            db.run("UPDATE $.lease SET epoch = greatest(epoch, 1) WHERE partition = %s", [partition])

    def list_copied(self, partition: int) -> Mapping[int, str]:
        known: Mapping[int, str] = dict(
            self._read("SELECT base, version FROM $.copied WHERE partition = %s", partition)
        )
        return {part.base: known.get(part.base, "") for part in self.list_parts(partition)}

    def put_part(self, partition: int, part: LogPart, records: Iterable[StoredRecord]) -> None:
        with self._write() as db:
            before = _find_segment(db, partition, part.base)
            if before:
                db.run(f"DROP TABLE IF EXISTS $.{before[1]}")
            name = make_table(db)
            rows = ((*record, compute_crc(record.meta, record.body, record.events)) for record in records)
            _fill(db, f"COPY $.{name} FROM STDIN (FORMAT BINARY)", rows, BLOCK_TYPES)
            values = {
                "partition": partition,
                "number": before[0] if before else None,
                "name": name,
                "base": part.base,
            }
            db.run(PUT.format(name=name), values)
            db.run(NOTE, [partition, *part])

    def remove_part(self, partition: int, base: int) -> None:
        with self._write() as db:
            if found := _find_segment(db, partition, base):
                db.run(f"DROP TABLE IF EXISTS $.{found[1]}")
            for table in ("segment", "copied"):
                db.run(f"DELETE FROM $.{table} WHERE partition = %s AND base = %s", [partition, base])  # noqa: S608

    def put_state(self, partition: int, tables: Iterable[Table], numbers: Mapping[str, int]) -> None:
        with self._write() as db:
            for table in tables:
                where = self._where(partition, table.name)
                db.run(f"DELETE FROM $.{table.name}{where}")  # noqa: S608
                names, rows = table.columns, table.rows
                if where:
                    names, rows = ["partition", *names], ((partition, *row) for row in rows)
                _fill(db, f"COPY $.{table.name} ({quote(names)}) FROM STDIN", rows)
            for name, sequence in self._list_sequences(partition).items():
                first = partition * NUMBERS + 1 if name in NUMBERED else 1
                db.run(f"SELECT setval('{sequence}', %s, false)", [max(first, numbers.get(name, 0) + 1)])


def _find_segment(db: PostgresConnection, partition: int, base: int) -> tuple[int, str] | None:
    """Return number and table of the segment with this base."""
    query = "SELECT number, name FROM $.segment WHERE partition = %s AND base = %s"
    row = db.run(query, [partition, base]).fetchone()
    return None if row is None else (row[0], row[1])


def _stream(db: PostgresConnection, query: str, *, binary: bool = False) -> Iterator[Row]:
    """Yield the rows of a query, of which few are in memory."""
    yield from db.cursor().stream(query.replace("$.", f"{db.schema}."), binary=binary)


def _fill(db: PostgresConnection, statement: str, rows: Iterable[Row], types: Sequence[str] = ()) -> None:
    """Fill a table by a COPY statement. `types`: of the columns, for a binary one."""
    with db.cursor().copy(statement.replace("$.", f"{db.schema}.")) as copy:
        if types:
            copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def open_postgres(state: Path, settings: JournalSettings) -> PostgresSide:
    """Return the side of the database of these settings. `state`: the state folder of a relay. Raises Unavailable."""
    database = find_database(settings)
    with database.use() as db:
        check_tables(db)
    return PostgresSide(database, PostgresStore(settings, state))
