"""The last saved ledgers of all lanes and sources of a state folder, whether relay runs or not."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import starmap
from pathlib import Path

from relay.state.cursor import load_cursors
from relay.state.database_file import connect
from relay.state.layout import list_worker_folders
from relay.store import (
    SOURCE_COLUMNS,
    LaneLedger,
    Ledger,
    SourceLedger,
    encode_source_ledger,
    merge_ledgers,
    parse_source_ledger,
)


def read_sources(db: sqlite3.Connection) -> list[SourceLedger]:
    """Read the last saved ledger of every source, by name."""
    query = f"SELECT {SOURCE_COLUMNS} FROM source ORDER BY name"  # noqa: S608
    return [*starmap(parse_source_ledger, db.execute(query))]


def save_sources(db: sqlite3.Connection, counted: Sequence[SourceLedger]) -> None:
    """Save the sources' ledgers."""
    query = f"REPLACE INTO source ({SOURCE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
    db.executemany(query, map(encode_source_ledger, counted))


def read_memories(db: sqlite3.Connection) -> dict[str, str]:
    """Read the saved memory of each source."""
    return dict(db.execute("SELECT name, memory FROM source_memory").fetchall())


def save_memory(db: sqlite3.Connection, source: str, memory: str) -> None:
    """Save the memory of a source."""
    db.execute("REPLACE INTO source_memory VALUES (?, ?)", (source, memory))


def read_source_ledgers(folder: Path) -> list[SourceLedger]:
    """Read the ledgers of all sources by name, up to a minute old. Raises FileNotFoundError, sqlite3.Error."""
    with closing(connect(folder, "ro")) as db:
        return read_sources(db)


def read_lane_ledgers(folder: Path) -> list[LaneLedger]:
    """Read the ledgers of all lanes, the last saved first. Raises FileNotFoundError, sqlite3.Error."""
    with closing(connect(folder, "ro")) as db:
        return [*starmap(LaneLedger, load_cursors(db))]


def read_lanes_if_any(folder: Path) -> list[LaneLedger]:
    """Read the ledgers of all lanes; return none if no relay has run with the folder."""
    try:
        return read_lane_ledgers(folder)
    except FileNotFoundError:
        return []


def read_ledger(folder: Path) -> dict[str, Ledger]:
    """Read the last saved counts of every connector, summed over all workers.

    Raises FileNotFoundError, sqlite3.Error.
    """
    return merge_ledgers(lane for mine in list_worker_folders(folder).values() for lane in read_lane_ledgers(mine))
