"""Answers to deliveries that did not succeed at once, for questions about the fate of an event."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import starmap
from pathlib import Path
from typing import Final

from relay.state.database_file import connect
from relay.store import ATTEMPTS_COLUMNS, ATTEMPTS_KEPT, ATTEMPTS_KEPT_BYTES, Attempts, parse_attempts

_TOO_MUCH: Final = """
    DELETE FROM attempt WHERE rowid <= (
        SELECT max(rowid) FROM (
            SELECT rowid, sum(200 + length(ranges) + length(answer)) OVER (ORDER BY rowid DESC) AS size FROM attempt
        ) WHERE size > ?
    )
"""

_NOTE: Final = """
    INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (connector, replay, start, stop, events)
    DO UPDATE SET attempts = excluded.attempts, outcome = excluded.outcome, last = excluded.last,
    answer = CASE excluded.answer WHEN '' THEN answer ELSE excluded.answer END
"""


def save_attempts(db: sqlite3.Connection, made: Iterable[Attempts]) -> None:
    """Save attempts, each in place of those at the same events before."""
    rows = [
        (*one.key, json.dumps(one.ranges), one.attempts, one.outcome, one.answer, one.first, one.last) for one in made
    ]
    db.executemany(_NOTE, rows)


def forget_attempts(db: sqlite3.Connection, oldest: int) -> None:
    """Delete attempts at events below this offset, and the oldest of too many."""
    db.execute("DELETE FROM attempt WHERE stop <= ?", (oldest,))
    db.execute("DELETE FROM attempt WHERE rowid <= (SELECT max(rowid) FROM attempt) - ?", (ATTEMPTS_KEPT,))
    db.execute(_TOO_MUCH, (ATTEMPTS_KEPT_BYTES,))


def read_answers(db: sqlite3.Connection, connector: str | None) -> Iterator[tuple[int, list[tuple[int, int]], str]]:
    """Yield each answer that is kept for a connector: its row, the offsets it is about, and its text."""
    query = "SELECT rowid, ranges, answer FROM attempt WHERE connector IS ? AND answer != ''"
    for row, ranges, answer in db.execute(query, (connector,)):
        yield row, json.loads(ranges), answer


def clear_answers(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Remove the texts of answers from these rows. The rows stay."""
    db.executemany("UPDATE attempt SET answer = '' WHERE rowid = ?", [(row,) for row in rows])


def read_attempted_connectors(db: sqlite3.Connection) -> set[str]:
    """Return the connectors whose attempts are kept."""
    return {connector for (connector,) in db.execute("SELECT DISTINCT connector FROM attempt")}


def delete_attempts_of(db: sqlite3.Connection, connector: str) -> None:
    """Delete all attempts of a connector."""
    db.execute("DELETE FROM attempt WHERE connector = ?", (connector,))


def delete_attempts(db: sqlite3.Connection) -> None:
    """Delete all attempts."""
    db.execute("DELETE FROM attempt")


def find_attempts_at(folder: Path, offset: int) -> list[Attempts]:
    """Return the attempts at an event, the last one first. Raises FileNotFoundError, sqlite3.Error."""
    query = f"""
        SELECT {ATTEMPTS_COLUMNS} FROM attempt
        WHERE start <= ? AND stop > ? ORDER BY last DESC, attempts DESC
    """  # noqa: S608
    with closing(connect(folder, "ro")) as db:
        rows = db.execute(query, (offset, offset)).fetchall()
    return [one for one in starmap(parse_attempts, rows) if one.covers(offset)]
