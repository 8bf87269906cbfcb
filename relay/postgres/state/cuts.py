"""The saved cuts of lanes, and of other parts of their work: the table `cut`. See `relay.store.CutLines`.

How they fail and recover:

- Lines of all lanes that wait go out in one transaction. A lane waits for its line before the batch goes out.
- The transaction does not wait for the server's disk. A crash of the server, or the change to another one, may lose the
  last lines: then batches go out again cut otherwise, under other keys.
- A transaction that fails, or whose end is unknown, has the lane write all its lines anew.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from relay.postgres.connection import PostgresConnection
from relay.postgres.state.transactions import HolderTransactions
from relay.store import StateThread

_ADD: Final = "INSERT INTO $.cut (partition, connector, part, number, line) VALUES (%s, %s, %s, %s, %s)"
_APPEND: Final = "INSERT INTO $.cut (partition, connector, part, number, line) SELECT come.* FROM held, (VALUES "
_REMOVE: Final = "DELETE FROM $.cut WHERE partition = %s AND connector = %s AND part = %s"
_LINE: Final = "(%s::integer, %s, %s, %s::bigint, %s::bytea)"
LINES_AT_ONCE: Final = 100
"""Lines of one statement: each number of lines is a statement of its own."""


class CutChange(NamedTuple):
    """Lines to be written."""

    connector: str
    part: str
    first: int
    """The number of the first line. 0: the lines before are removed."""
    lines: Sequence[bytes]

    def make_rows(self, partition: int) -> list[tuple[int, str, str, int, bytes]]:
        """Return the rows of the lines."""
        return [
            (partition, self.connector, self.part, number, line) for number, line in enumerate(self.lines, self.first)
        ]


class CutWriter:
    """Writes the lines of all lanes of a partition in the order of the calls, as many as wait in one transaction."""

    def __init__(self, thread: StateThread, transactions: HolderTransactions, partition: int) -> None:
        self._thread, self._transactions, self._partition = thread, transactions, partition
        self._waiting = deque[CutChange]()
        self._last: asyncio.Future[None] | None = None
        self._is_due = False
        """Whether the last write has not begun: it takes all that waits then."""

    def write(self, change: CutChange) -> asyncio.Future[None]:
        """Write lines; return the write that they are part of."""
        self._waiting.append(change)
        if self._last is None or not self._is_due:
            self._is_due = True
            self._last = self._thread.submit(self._write_waiting)
        return self._last

    def _write_waiting(self) -> None:
        self._is_due = False  # before what waits is taken: what comes now is in this write or in another one
        changes = list[CutChange]()
        while self._waiting:
            changes.append(self._waiting.popleft())
        if any(change.first == 0 for change in changes):
            self._transactions.run_quick(lambda db: write_cuts(db, self._partition, changes))
            return
        rows = [row for change in changes for row in change.make_rows(self._partition)]
        for start in range(0, len(rows), LINES_AT_ONCE):
            some = rows[start : start + LINES_AT_ONCE]
            insert = f"{_APPEND}{', '.join([_LINE] * len(some))}) AS come"
            self._transactions.insert_quick(insert, [value for row in some for value in row])

    def load(self, connector: str, part: str) -> list[bytes]:
        """Return all lines, once those that wait are written. Blocking. Raises Unavailable."""
        read = self._transactions.run
        return self._thread.call(read, lambda db: read_cuts(db, self._partition, connector, part))


class TableCuts:
    """The lines of a lane, or of another part of its work."""

    def __init__(self, writer: CutWriter, connector: str, part: str, place: str) -> None:
        self._writer, self._connector, self._part = writer, connector, part
        self._lines = 0
        """Lines since the last `rewrite`."""
        self.where = f"cuts in {place}"

    def load(self) -> list[bytes]:
        """Return all lines. Blocking."""
        return self._writer.load(self._connector, self._part)

    def append(self, line: bytes) -> asyncio.Future[None]:
        """Add a line behind those of the last `rewrite`."""
        return self._write(self._lines, [line])

    def rewrite(self, lines: Sequence[bytes]) -> asyncio.Future[None]:
        """Put these lines in place of all before."""
        return self._write(0, lines)

    def _write(self, first: int, lines: Sequence[bytes]) -> asyncio.Future[None]:
        self._lines = first + len(lines)
        return self._writer.write(CutChange(self._connector, self._part, first, [*lines]))

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def remove(self) -> None:
        """Remove all lines, soon."""
        self._write(0, [])


def write_cuts(db: PostgresConnection, partition: int, changes: Sequence[CutChange]) -> None:
    """Write lines, in this order."""
    rows = list[tuple[object, ...]]()
    for change in changes:
        if change.first == 0:
            db.run_many(_ADD, rows)
            rows.clear()
            db.run(_REMOVE, (partition, change.connector, change.part))
        rows += change.make_rows(partition)
    db.run_many(_ADD, rows)


def read_cuts(db: PostgresConnection, partition: int, connector: str, part: str) -> list[bytes]:
    """Read all lines of a lane or of another part of its work."""
    query = "SELECT line FROM $.cut WHERE partition = %s AND connector = %s AND part = %s ORDER BY number"
    return [line for (line,) in db.run(query, (partition, connector, part))]


def delete_cuts_of_replays(db: PostgresConnection, partition: int, but: Collection[int]) -> None:
    """Delete the cuts of all replays but these."""
    query = "DELETE FROM $.cut WHERE partition = %s AND part ~ '^[0-9]+$' AND part <> ALL(%s)"
    db.run(query, (partition, [str(number) for number in but]))


def delete_cuts_of(db: PostgresConnection, connector: str) -> None:
    """Delete all cuts of a connector, in all partitions."""
    db.run("DELETE FROM $.cut WHERE connector = %s", (connector,))
