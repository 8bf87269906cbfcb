"""Reads the databases of a state folder without writing: `cohorts/CONNECTOR.db`."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from relay_plugins.braze_cohorts.change import Member

FOLDER: Final = "cohorts"
BUSY_S: Final = 10.0
MEMBERS: Final = "SELECT kind, id FROM member WHERE cohort = ?"
COHORTS: Final = """
SELECT id, name, (SELECT count(*) FROM member WHERE cohort = cohort.id), created, synced, task,
    coalesce(error.count, 0), coalesce(error.last, ''), coalesce(left_out.users, 0)
FROM cohort LEFT JOIN error ON error.cohort = cohort.id LEFT JOIN left_out ON left_out.cohort = cohort.id
"""

UNFINISHED: Final = """
SELECT sum(came), sum(parts) FROM (
    SELECT count(*) AS came, max(parts) AS parts FROM part
    WHERE cohort = :cohort AND task = (SELECT task FROM part WHERE cohort = :cohort ORDER BY offset DESC LIMIT 1)
    GROUP BY page
)
"""


class Cohort(NamedTuple):
    """A cohort as Braze was told."""

    id: str
    name: str
    members: int
    created: float
    synced: float
    task: str
    errors: int
    """Entries that Braze named as wrong in answers that otherwise succeeded."""
    last_error: str
    left_out: int
    """Ids of a kind by which Braze cannot find users, such as device ids for attributes."""


def find_databases(state: Path) -> dict[str, Path]:
    """Return the databases in a state folder, by connector."""
    return {path.stem: path for path in sorted((state / FOLDER).glob("*.db"))}


def read_cohorts(path: Path) -> list[Cohort]:
    """Return every cohort of a connector. Raises sqlite3.Error."""
    with closing(_connect(path)) as db:
        return [Cohort(*row) for row in db.execute(COHORTS)]


def read_members(path: Path, cohort: str) -> list[Member]:
    """Return the members of a cohort as Braze was told. Raises sqlite3.Error."""
    with closing(_connect(path)) as db:
        return [Member(*row) for row in db.execute(MEMBERS, (cohort,))]


def read_unfinished(path: Path, cohort: str) -> tuple[int, int] | None:
    """Return how many parts of an incomplete whole membership have come, and of how many; None if there is none.
    Raises sqlite3.Error."""
    with closing(_connect(path)) as db:
        came, parts = db.execute(UNFINISHED, {"cohort": cohort}).fetchone()
        return (came, parts) if came else None


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
