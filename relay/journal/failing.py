"""Erasures that fail. Blocking, and changes nothing."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.journal.folders import worker_folders
from relay.journal.parked import connect

_AT_CONNECTORS: Final = """
    SELECT connector, count(*), min(coalesce(compacted, asked)), reason  -- SQLite: the reason of that minimum's row
    FROM erasure JOIN erasure_answer USING (number)
    WHERE done IS NULL AND outcome = 'failed' GROUP BY connector ORDER BY connector
"""
_HERE: Final = "SELECT number, asked, problem FROM erasure WHERE done IS NULL AND problem NOT NULL"


@dataclass(frozen=True, slots=True)
class FailingErasures:
    """Erasures whose last try failed, all at the same place."""

    connector: str | None
    """None: in relay's own journal and tables."""
    erasures: int
    """How many."""
    since: float
    """When the oldest of them was removed from journal and tables, or asked for if it was not; Unix seconds."""
    reason: str
    """Of the oldest one."""


def failing_erasures(folder: Path) -> list[FailingErasures]:
    """Those of a state folder, each once however many workers fail. Raises FileNotFoundError, sqlite3.Error."""
    here: dict[int, tuple[float, str]] = {}
    for mine in worker_folders(folder).values():
        with closing(connect(mine, "ro")) as db:
            here |= {number: (asked, problem) for number, asked, problem in db.execute(_HERE)}
    with closing(connect(folder, "ro")) as db:
        at_connectors = failing_at_connectors(db)
    return [*([FailingErasures(None, len(here), *min(here.values()))] if here else []), *at_connectors]


def failing_at_connectors(db: sqlite3.Connection) -> list[FailingErasures]:
    """Those that fail at connectors, by the first worker's database. Raises sqlite3.Error."""
    return [FailingErasures(*row) for row in db.execute(_AT_CONNECTORS)]
