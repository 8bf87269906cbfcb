"""The last saved ledgers of all lanes and sources of a state folder, whether relay runs or not."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, Final

from relay.state.cursor import Cursor, Ledger, find_unsettled, load_cursors
from relay.state.database_file import connect
from relay.state.layout import list_worker_folders

Range = tuple[int, int]
"""Offsets from the first number up to the second, exclusive."""


@dataclass(frozen=True, slots=True)
class LaneLedger:
    """The last saved cursor of a lane, with the journal's head of that moment."""

    connector: str
    head: int
    cursor: Cursor

    @property
    def ledger(self) -> Ledger:
        """The count of each outcome."""
        return self.cursor.make_ledger(self.head)

    @property
    def unsettled(self) -> list[Range]:
        """Offsets without an outcome."""
        return find_unsettled(self.cursor.position, self.head, self.cursor.ahead)

    def count_left(self, oldest: int) -> int:
        """Count the unsettled offsets from the journal's oldest offset on."""
        rest = find_unsettled(max(self.cursor.position, oldest), self.head, self.cursor.ahead)
        return sum(stop - start for start, stop in rest)

    def is_settled(self, offset: int) -> bool:
        """Return whether the event at this offset has an outcome. It must not be older than the lane."""
        return self.cursor.is_settled(offset)


@dataclass(frozen=True, slots=True)
class Refusals:
    """A source refuses every request since `since`."""

    since: float
    """Time of the first refusal after the last 2xx, in Unix seconds."""
    last: float
    """Time of the last refusal, in Unix seconds."""
    status: int
    """Status of the last refusal."""
    reason: str
    deadline: float | None
    """When the sender stops for good, in Unix seconds; None: unknown."""


@dataclass(frozen=True, slots=True)
class SourceLedger:
    """The counts of a source."""

    source: str
    duplicates: int = 0
    """Events left out as duplicates."""
    refusals: Refusals | None = None
    """None: the source takes requests, or has refused them only for a moment."""


SOURCE_COLUMNS: Final = "name, duplicates, failing_since, last, status, reason, deadline"


def parse_source_ledger(name: str, duplicates: int, since: float | None, *rest: Any) -> SourceLedger:
    """Parse a source's ledger from a row with `SOURCE_COLUMNS`."""
    return SourceLedger(name, duplicates, None if since is None else Refusals(since, *rest))


def read_sources(db: sqlite3.Connection) -> list[SourceLedger]:
    """Read the last saved ledger of every source, by name."""
    query = f"SELECT {SOURCE_COLUMNS} FROM source ORDER BY name"  # noqa: S608
    return [*starmap(parse_source_ledger, db.execute(query))]


def save_sources(db: sqlite3.Connection, counted: Sequence[SourceLedger]) -> None:
    """Save the sources' ledgers."""
    rows = [(one.source, one.duplicates, *(astuple(one.refusals) if one.refusals else [None] * 5)) for one in counted]
    db.executemany(f"REPLACE INTO source ({SOURCE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608


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
    found: dict[str, Ledger] = {}
    lanes = [lane for mine in list_worker_folders(folder).values() for lane in read_lane_ledgers(mine)]
    for lane in sorted(lanes, key=lambda lane: lane.connector):
        found[lane.connector] = lane.ledger + found[lane.connector] if lane.connector in found else lane.ledger
    return found


def find_acknowledged_head(lanes: Sequence[LaneLedger]) -> int:
    """Return the last saved head, below which all events were acknowledged.

    Running lanes are saved together. An older row is a removed connector's, perhaps with an older journal.
    """
    return lanes[0].head if lanes else 0
