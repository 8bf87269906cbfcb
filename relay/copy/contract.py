"""What the copy asks of the store that it reads, and of the store that it fills: the contract of both sides."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from relay.journal import StoredRecord
from relay.store import Store

TABLES: Final = (
    *("journal_state", "cursor", "parked", "parked_removed", "replay", "attempt", "cut", "source", "source_memory"),
    *("damage", "erasure", "erasure_answer", "identity", "watch", "plugin_store"),
)
"""What each partition knows beside its events."""
FIRST_TABLES: Final = ("pause", "history", "alert_track", "alert_message", "seen")
"""What the first partition knows for all."""
NUMBERED: Final = ("parked", "replay")
"""The tables whose rows have numbers that are never given twice. Each partition gives its own."""
FIRST_NUMBERED: Final = ("erasure", "history", "alert_message")
"""Such tables whose numbers the first partition gives for all."""

Row = tuple[Any, ...]


class LogPart(NamedTuple):
    """A part of a log: a segment."""

    base: int
    """The offset of its first event."""
    version: str
    """Changes with whatever is written into the part."""


class Table(NamedTuple):
    """The rows of a table. What one engine keeps in files is a table here as well."""

    name: str
    columns: Sequence[str]
    rows: Iterator[Row]


def quote(columns: Sequence[str]) -> str:
    """Return the columns as SQL lists them."""
    return ", ".join(f'"{name}"' for name in columns)


class Side(Protocol):
    """A store as source or target of a copy. All methods block, and raise Unavailable."""

    @property
    def place(self) -> str:
        """Where the store is, for messages."""

    @property
    def name(self) -> str:
        """How `relay journal copy --to` names the engine."""

    @property
    def release(self) -> str:
        """The command with which an admin lets relays start all the same."""

    @property
    def store(self) -> Store:
        """The store."""

    def close(self) -> None:
        """Let go of all connections."""

    def list_partitions(self) -> list[int]:
        """Return the numbers of the partitions that hold anything, ascending."""

    def count_room(self) -> int | None:
        """Return the number of partitions that there may be; None: any number."""

    def read_identity(self, partition: int) -> str:
        """Return the id of a partition's log."""

    def read_bar(self) -> str:
        """Return why no relay starts with the store; "" if relays start."""

    def bar(self, why: str) -> None:
        """Let no relay start with the store. Raises Unavailable if a relay works with it, or has since `hold`."""

    def unbar(self) -> None:
        """Let relays start with the store, and forget which parts were copied."""

    def hold(self) -> AbstractContextManager[None]:
        """Make sure that no relay works with the store at the beginning of the body, and best during all of it."""

    def list_parts(self, partition: int) -> list[LogPart]:
        """Return the parts of a log, the oldest first."""

    def read_part(self, partition: int, base: int) -> Iterator[StoredRecord]:
        """Yield the whole records of a part. Yields nothing if the part has left the log."""

    def count_rows(self, partition: int, table: str) -> int:
        """Return the number of rows of a table."""

    def list_columns(self, table: str) -> Sequence[str]:
        """Return the columns of a table, without those that tell a place in this engine."""

    def read_rows(self, partition: int, table: str, columns: Sequence[str]) -> Iterator[Row]:
        """Yield the rows of a table."""

    def read_numbers(self, partition: int) -> Mapping[str, int]:
        """Return the last number that the partition has given, by table; without those that have given none."""

    def adopt(self, partition: int, identity: str) -> None:
        """Give the log of a partition this id, and make room for it."""

    def list_copied(self, partition: int) -> Mapping[int, str]:
        """Return the version of each part that was copied here, by its base."""

    def put_part(self, partition: int, part: LogPart, records: Iterable[StoredRecord]) -> None:
        """Put a part in place of the one with its base, all or nothing, durably."""

    def remove_part(self, partition: int, base: int) -> None:
        """Remove a part."""

    def put_state(self, partition: int, tables: Iterable[Table], numbers: Mapping[str, int]) -> None:
        """Put tables in place of all that the partition knows, all or nothing, durably."""
