"""The position of a lane, and the outcomes of its events: the table `cursor` of relay.db.

Functions with a database are parts of transactions.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import Final

from relay.store import CURSOR_COLUMNS, OUTCOMES, Cursor, encode_cursor, parse_cursor

_SAVED: Final = f"connector, head, {CURSOR_COLUMNS}, saved"
_SAVE: Final = f"REPLACE INTO cursor ({_SAVED}) VALUES ({', '.join('?' * (6 + len(OUTCOMES)))})"  # noqa: S608


def make_cursor_rows(cursors: Mapping[str, Cursor], head: int) -> list[tuple[object, ...]]:
    """Return the rows of these cursors as they are now, all saved at the same moment. `head`: the journal's."""
    now = time.time()
    return [(connector, head, *encode_cursor(one), now) for connector, one in cursors.items()]


def save_cursors(db: sqlite3.Connection, rows: Iterable[tuple[object, ...]]) -> None:
    """Write rows, each in place of the connector's row before."""
    db.executemany(_SAVE, rows)


def load_cursor(db: sqlite3.Connection, connector: str | None) -> Cursor | None:
    """Return the saved cursor of a connector; None if the connector never ran."""
    query = f"SELECT {CURSOR_COLUMNS} FROM cursor WHERE connector = ?"  # noqa: S608
    row = db.execute(query, (connector,)).fetchone()
    return None if row is None else parse_cursor(*row)


def load_cursors(db: sqlite3.Connection) -> list[tuple[str, int, Cursor]]:
    """Return the connector, the journal's head and the cursor of every row, the row saved last first."""
    query = f"SELECT connector, head, {CURSOR_COLUMNS} FROM cursor ORDER BY saved DESC, connector"  # noqa: S608
    return [(connector, head, parse_cursor(*columns)) for connector, head, *columns in db.execute(query)]


def count_as_erased(db: sqlite3.Connection, connector: str | None, events: int) -> None:
    """Count so many events of a connector as erased that were counted as parked."""
    query = "UPDATE cursor SET parked = parked - ?, erased = erased + ? WHERE connector = ?"
    db.execute(query, (events, events, connector))


def read_saved_connectors(db: sqlite3.Connection) -> list[str]:
    """Return the connectors that have a cursor."""
    return [connector for (connector,) in db.execute("SELECT connector FROM cursor")]


def read_saved_positions(db: sqlite3.Connection) -> list[int]:
    """Return the position of every cursor."""
    return [position for (position,) in db.execute("SELECT position FROM cursor")]


def delete_cursor(db: sqlite3.Connection, connector: str) -> None:
    """Delete the cursor of a connector."""
    db.execute("DELETE FROM cursor WHERE connector = ?", (connector,))


def delete_cursors(db: sqlite3.Connection) -> None:
    """Delete all cursors."""
    db.execute("DELETE FROM cursor")
