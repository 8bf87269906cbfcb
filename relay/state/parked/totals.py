"""Totals of parked events and of removed ones: the tables `parked_total` and `parked_removed`."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from relay.state.database_file import connect
from relay.store import ParkedTotal, Reason, parse_totals

_COUNT_REMOVED: Final = """
    INSERT INTO parked_removed VALUES (?, ?, ?, ?, 1)
    ON CONFLICT DO UPDATE SET events = events + 1
"""


def read_worker_totals(folder: Path) -> list[ParkedTotal]:
    """Read the totals of one worker's folder."""
    with closing(connect(folder, "ro")) as db:
        lying = db.execute("SELECT source, connector, cause, events, bytes FROM parked_total").fetchall()
        gone = db.execute("SELECT source, connector, cause, reason, events FROM parked_removed").fetchall()
    return parse_totals(lying, gone)


def read_stored_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes of all parked events."""
    return int(db.execute("SELECT coalesce(sum(bytes), 0) FROM parked_total").fetchone()[0])


def count_stored(db: sqlite3.Connection, condition: str, values: Sequence[Any]) -> int:
    """Return the number of parked events whose source, connector and cause meet an SQL condition."""
    query = f"SELECT coalesce(sum(events), 0) FROM parked_total WHERE {condition}"  # noqa: S608
    return int(db.execute(query, values).fetchone()[0])


def count_removed(db: sqlite3.Connection, removed: Iterable[tuple[str, str | None, str]], reason: Reason) -> None:
    """Count removed events, each with source, connector and cause, under a setting."""
    rows = [(source, connector or "", cause, reason) for source, connector, cause in removed]
    db.executemany(_COUNT_REMOVED, rows)
