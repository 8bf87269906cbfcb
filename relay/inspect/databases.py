"""Looks at the databases of a state folder, for `relay doctor`. Blocking, and changes nothing."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from relay.state import (
    DATABASE,
    advise_on_error,
    find_missing_end,
    find_worker_doubts,
    has_tables,
    list_journals,
    read_lanes_if_any,
)
from relay.store import Doubt


class CheckedDatabase(Struct, frozen=True, kw_only=True):
    """The database of one worker."""

    worker: int
    path: Path
    is_there: bool = False
    """Whether the database has tables."""
    doubts: Sequence[Doubt] = ()
    missing: str = ""
    """What the journal lacks before relay starts with it."""
    damaged: Mapping[str, int]
    """Events that each connector counts as damaged."""
    problem: str = ""
    """Why the database cannot be used."""
    advice: str = ""
    """What to do about the problem."""


def check_databases(state: Path, path: Path) -> Iterator[CheckedDatabase]:
    """Check that the databases can be used, and know their journals. `path`: the setting `journal.path`.

    Raises OSError.
    """
    for number, (folder, journal) in list_journals(state, path).items():
        database = folder / DATABASE
        try:
            doubts = [*find_worker_doubts(number, folder, journal)]
            missing = find_missing_end(folder, journal)
            damaged = {lane.connector: lane.ledger.counts.damaged for lane in read_lanes_if_any(folder)}
            is_there = has_tables(folder)
        except sqlite3.Error as error:
            advice = advise_on_error(error)
            yield CheckedDatabase(worker=number, path=database, damaged={}, problem=str(error), advice=advice)
        else:
            yield CheckedDatabase(
                worker=number, path=database, is_there=is_there, doubts=doubts, missing=missing, damaged=damaged
            )


def has_run(state: Path) -> bool:
    """Return whether relay has run with a state folder."""
    return (state / DATABASE).exists()
