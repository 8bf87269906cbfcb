"""The stores of connectors: the table `plugin_store`.

How it fails and recovers:

- Each store has a connection and a thread of its own. A store that is large or slow delays neither the cursors nor
  another connector.
- A write is one transaction, and begins with the check of the lease. If its end is unknown, it is repeated.
- `purge` writes the table anew, with the stores of all connectors. While a transaction sees deleted data, or a store is
  in use for long, `purge` fails, and has to be called again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from relay.api import StoreError, StoreReader
from relay.api.internal import LeftBehind, Threads, check_write, find_key_range
from relay.postgres.connection import Database, Lasting, PostgresConnection
from relay.postgres.overwrite import overwrite_deleted
from relay.postgres.state.transactions import WAIT_FOR_LOCKS
from relay.store import Unavailable

T = TypeVar("T")
Pair = tuple[bytes, bytes]
PAIRS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 1 << 20
"""Bytes of one statement, at most, unless there is only one pair."""
PURGED: Final = {"plugin_store": "plugin_store_pkey"}
_MINE: Final = "partition = %(partition)s AND connector = %(connector)s AND type = %(type)s"
_GET: Final = f"""
    SELECT found.key, found.value FROM unnest(%(keys)s::bytea[]) AS wanted (key) CROSS JOIN LATERAL (
        SELECT one.key, one.value FROM $.plugin_store AS one
        WHERE {_MINE} AND head = substring(wanted.key FROM 1 FOR 1000) AND one.key = wanted.key LIMIT 1
    ) AS found
"""  # noqa: S608
_PUT: Final = """
    INSERT INTO $.plugin_store (partition, connector, type, key, value)
    SELECT %(partition)s, %(connector)s, %(type)s, key, value
    FROM unnest(%(keys)s::bytea[], %(values)s::bytea[]) AS come (key, value)
    ON CONFLICT (partition, connector, type, head, rest) DO UPDATE SET value = excluded.value
"""
_DELETE: Final = f"""
    DELETE FROM $.plugin_store AS one USING unnest(%(keys)s::bytea[]) AS gone (key)
    WHERE {_MINE} AND head = substring(gone.key FROM 1 FOR 1000) AND one.key = gone.key
"""  # noqa: S608
_SCAN: Final = f"""
    SELECT key, value FROM $.plugin_store WHERE {_MINE}
    AND head >= substring(%(start)s::bytea FROM 1 FOR 1000) AND key >= %(start)s
    AND (%(stop)s::bytea IS NULL OR head <= substring(%(stop)s::bytea FROM 1 FOR 1000) AND key < %(stop)s)
    ORDER BY head, key LIMIT %(limit)s
"""  # noqa: S608


class StoreTable:
    """The store of a connector in one partition, a `relay.api.KeyValueStore`."""

    def __init__(
        self,
        database: Database,
        partition: int,
        hold: str,
        type: str,
        connector: str,
        under_way: LeftBehind | None = None,
    ) -> None:
        """`hold`: the statement that checks the lease. `under_way` gets all work until it is done. Connects to nothing
        yet."""
        self._database, self._first = database, WAIT_FOR_LOCKS + hold
        self._mine = {"partition": partition, "connector": connector, "type": type}
        self._name, self._under_way = connector, under_way
        self._opened: tuple[Threads, Lasting] | None = None

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""
        wanted = [*keys]
        return await self._run(lambda db: get_pairs(db, self._mine, wanted))

    async def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 1000) -> list[Pair]:
        """Return the first `limit` keys behind `after` that begin with `prefix`, with their values, in order."""
        return await self._run(lambda db: scan_pairs(db, self._mine, prefix, after, limit))

    async def write(self, puts: Mapping[bytes, bytes] | None = None, deletes: Iterable[bytes] = ()) -> None:
        """Put and delete keys, all or nothing, durably. Raises ValueError for pairs that no store takes."""
        come, gone = sorted((puts or {}).items()), sorted(deletes)
        check_write(puts or {}, gone)

        def write(db: PostgresConnection) -> None:
            with db.transaction_of(self._first):
                delete_keys(db, self._mine, gone)
                put_pairs(db, self._mine, come)

        await self._run(write)

    async def purge(self) -> None:
        """Remove what was deleted before from all files but the write-ahead log."""
        await self._run(lambda db: overwrite_deleted(self._database, PURGED))

    async def close(self) -> None:
        """Finish what runs, and close the connection. The next use opens another one."""
        if opened := self._opened:
            (threads, connection), self._opened = opened, None
            try:
                await threads.run(connection.close)
            finally:
                threads.close()

    async def _run(self, work: Callable[[PostgresConnection], T]) -> T:
        """Do work in the store's thread. A cancellation drops only work that has not begun."""
        if self._opened is None:
            self._opened = Threads(f"store {self._name}", 1, self._under_way), Lasting(self._database)
        threads, connection = self._opened
        return await threads.run(self._do, connection, work)

    def _do(self, connection: Lasting, work: Callable[[PostgresConnection], T]) -> T:
        with _convert_errors(self._database, self._name), connection.use() as db:
            return work(db)


class TableStores:
    """The stores of all connectors, read from outside: `relay.api.Stores`. A worker is a partition."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_connectors(self, type: str, *, worker: int = 0) -> list[str]:
        """Return the names of all connectors of a type that have a store, in order."""
        query = "SELECT DISTINCT connector FROM $.plugin_store WHERE partition = %s AND type = %s ORDER BY connector"
        with self._database.use() as db:
            return [connector for (connector,) in db.run(query, (worker, type))]

    @contextmanager
    def read(self, type: str, connector: str, *, worker: int = 0) -> Iterator[StoreReader]:
        """Open a store to read, as of one moment. Raises StoreError."""
        mine = {"partition": worker, "connector": connector, "type": type}
        with (
            _convert_errors(self._database, connector),
            self._database.use() as db,
            db.transaction_of(begin="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"),
        ):
            if not scan_pairs(db, mine, b"", b"", 1):
                raise StoreError(
                    f"the store of connector {connector} in {self._database.place}: there is no such store"
                )
            yield _Snapshot(db, mine)


class _Snapshot:
    """A store as of the moment its transaction began. Blocking."""

    def __init__(self, db: PostgresConnection, mine: Mapping[str, Any]) -> None:
        self._db, self._mine = db, mine

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return get_pairs(self._db, self._mine, [*keys])

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Pair]:
        while page := scan_pairs(self._db, self._mine, prefix, after, PAIRS_AT_ONCE):
            yield from page
            after = page[-1][0]


def get_pairs(db: PostgresConnection, mine: Mapping[str, Any], keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Read the values of keys. `mine`: partition, connector and type."""
    found: dict[bytes, bytes] = {}
    for start in range(0, len(keys), PAIRS_AT_ONCE):
        rows = db.run(_GET, {**mine, "keys": [*keys[start : start + PAIRS_AT_ONCE]]})
        found.update(rows.fetchall())
    return found


def scan_pairs(db: PostgresConnection, mine: Mapping[str, Any], prefix: bytes, after: bytes, limit: int) -> list[Pair]:
    """Read at most `limit` pairs behind `after` whose keys begin with `prefix`."""
    start, stop = find_key_range(prefix, after)
    return db.run(_SCAN, {**mine, "start": start, "stop": stop, "limit": limit}).fetchall()


def put_pairs(db: PostgresConnection, mine: Mapping[str, Any], pairs: Sequence[Pair]) -> None:
    """Write pairs, each in place of the key's value before."""
    for portion in _divide(pairs):
        db.run(_PUT, {**mine, "keys": [key for key, _ in portion], "values": [value for _, value in portion]})


def _divide(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    portion, size = list[Pair](), 0
    for key, value in pairs:
        if portion and (len(portion) == PAIRS_AT_ONCE or size + len(key) + len(value) > BYTES_AT_ONCE):
            yield portion
            portion, size = [], 0
        portion.append((key, value))
        size += len(key) + len(value)
    if portion:
        yield portion


def delete_keys(db: PostgresConnection, mine: Mapping[str, Any], keys: Sequence[bytes]) -> None:
    """Delete keys."""
    for start in range(0, len(keys), PAIRS_AT_ONCE):
        db.run(_DELETE, {**mine, "keys": [*keys[start : start + PAIRS_AT_ONCE]]})


def delete_stores_of(db: PostgresConnection, connector: str) -> None:
    """Delete the stores of a connector in all partitions, of whatever type it was."""
    db.run("DELETE FROM $.plugin_store WHERE connector = %s", (connector,))


@contextmanager
def _convert_errors(database: Database, connector: str) -> Iterator[None]:
    """Raise StoreError for what is unavailable, with the place of the store."""
    try:
        yield
    except Unavailable as error:
        raise StoreError(f"the store of connector {connector} in {database.place}: {error}") from error
