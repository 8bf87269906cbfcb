"""A store of a connector's own: small, durable, ordered keys and values, kept by relay beside its own data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import click

KEY_BYTES: Final = 32 << 10
VALUE_BYTES: Final = 1 << 20
FIND_STORES: Final = "relay.find_stores"
"""The key of `Callable[[Path, Path | None], Stores]` in a command's context."""


class StoreError(OSError):
    """Raised when a store cannot be used now: its text tells an admin what failed, where, and what to do.

    It is an OSError. If `deliver` or `erase` raises it, relay tries again.
    """


class KeyValueStore(Protocol):
    """Keys and values that outlive relay: of one connector, in one worker.

    relay sets `self.store` before `open`. In a test, set `connector.store = relay.testing.MemoryStore()`. A connector
    with another name, another type or in another worker has another store.

    Keys and values are bytes. A key has 1 byte to 32 KiB, a value 1 MiB at most. Keys are in the order of their bytes.
    Keep the state of a connector here, not events: every write waits for the disk.

    All methods may be called at the same time, and cancelled at any await. They run in the order of the calls. A
    cancelled write happens as a whole, or not at all. All methods raise StoreError.
    """

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""

    async def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """Return keys that begin with `prefix`, with their values, in order: the first `limit` keys behind `after`.

        For the next page, say the last key of this page as `after`. An empty list is the end.
        """

    async def write(self, puts: Mapping[bytes, bytes] | None = None, deletes: Iterable[bytes] = ()) -> None:
        """Put and delete keys, all or nothing, durably. A key that is not in the store may be deleted.

        Raises ValueError if a key is both put and deleted, or if a key or value is too long.
        """

    async def purge(self) -> None:
        """Overwrite in the files what was deleted before. Call it in `erase`: until then files may have traces of a
        user."""

    async def close(self) -> None:
        """Finish what runs, and close the files. relay calls it after `close` of the connector. The next call of any
        other method opens the store again."""


class StoreReader(Protocol):
    """A store as of one moment, for commands. Its methods block, and raise StoreError."""

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys behind `after` that begin with `prefix`, with their values, in order."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a `AdminTable`."""

    name: str
    """The name, such as "members"."""
    doc: str
    """A sentence on the column."""
    kind: Literal["text", "number", "time"] = "text"
    """What the cells are; `time` is Unix seconds."""


@dataclass(frozen=True, slots=True)
class TableQuery:
    """The rows of a `AdminTable` that somebody wants."""

    where: Mapping[str, str] = field(default_factory=dict)
    """The wanted value of a column, by its name: columns of `AdminTable.where` alone."""
    after: str = ""
    """The key of the last row before; "": from the first row on."""


class TableRow(NamedTuple):
    """A row of a `AdminTable`."""

    key: str
    """A text by which the next page begins behind this row."""
    cells: Sequence[str | int | float | bool | None]
    """A value for each column. None: there is none."""


@dataclass(frozen=True, slots=True)
class AdminTable:
    """A small table that a connector shows to admins, read from its store: name it in `Connector.tables`.

    relay reads a page of rows at a time, as of one moment, whether the connector runs or not. `read` yields the rows
    behind `TableQuery.after`, in the same order each time. It blocks, and runs in a thread beside the connector. If
    it raises ValueError, the text tells the admin what is wrong with the query.
    """

    name: str
    """The name in the path of the admin API: a-z, 0-9 and _."""
    doc: str
    """A sentence on the table."""
    columns: tuple[TableColumn, ...]
    """The columns."""
    read: Callable[[StoreReader, TableQuery], Iterable[TableRow]]
    """Reads rows."""
    where: tuple[str, ...] = ()
    """The columns by which an admin may select rows."""


class Stores(Protocol):
    """The stores of a relay, to read them from outside, whether relay runs or not."""

    def list_connectors(self, type: str, *, worker: int = 0) -> list[str]:
        """Return the names of all connectors of a type that have a store, in order; removed connectors as well."""

    def read(self, type: str, connector: str, *, worker: int = 0) -> AbstractContextManager[StoreReader]:
        """Open a store to read. Be quick: `purge` fails while somebody reads. Raises StoreError."""


def find_stores(state: Path, conf: Path | None = None) -> Stores:
    """Return the stores of a state folder, or of the database that the configuration names. Call it in a command that a
    plugin adds to `relay` (`relay_commands`).

    `conf`: the folder of the configuration; None: those in which relay looks. Raises StoreError if the database is
    unknown here, and RuntimeError outside such a command.
    """
    found: Callable[[Path, Path | None], Stores] | None = click.get_current_context().meta.get(FIND_STORES)
    if found is None:
        raise RuntimeError("find_stores: no command of relay runs")
    return found(state, conf)


def check_write(puts: Mapping[bytes, bytes], deletes: Iterable[bytes]) -> None:
    """Raise ValueError if a store must not take such a write."""
    if twice := puts.keys() & {*deletes}:
        raise ValueError(f"a key is both put and deleted: {min(twice)!r:.80}")
    for key, value in puts.items():
        if not 1 <= len(key) <= KEY_BYTES:
            raise ValueError(f"a key has 1 to {KEY_BYTES:,} bytes, not {len(key):,}: {key!r:.80}")
        if len(value) > VALUE_BYTES:
            raise ValueError(f"a value has {VALUE_BYTES:,} bytes at most, not {len(value):,}: that of {key!r:.80}")


def find_key_range(prefix: bytes, after: bytes) -> tuple[bytes, bytes | None]:
    """Return the first key behind `after` that may begin with a prefix, and the first key behind all of these; None: no
    key is behind them."""
    start = max(prefix, after + b"\0") if after else prefix
    shorter = prefix.rstrip(b"\xff")  # no key is behind the keys that begin with 0xff alone
    return start, shorter[:-1] + bytes([shorter[-1] + 1]) if shorter else None
