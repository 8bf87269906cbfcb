"""The ledgers of all lanes as last saved in a state folder: read only, whether relay runs or not."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, Final

from relay.state.cursor import Cursor, Ledger, find_unsettled, load_cursors
from relay.state.database_file import connect
from relay.state.layout import worker_folders

Range = tuple[int, int]
"""Offsets from the first number up to but without the second."""


@dataclass(frozen=True, slots=True)
class LaneLedger:
    """A lane as last saved: its cursor, and the journal's head at that moment."""

    connector: str
    head: int
    cursor: Cursor

    @property
    def ledger(self) -> Ledger:
        """The count of each outcome."""
        return self.cursor.ledger(self.head)

    @property
    def unsettled(self) -> list[Range]:
        """The offsets that have no outcome yet."""
        return find_unsettled(self.cursor.position, self.head, self.cursor.ahead)

    def left(self, oldest: int) -> int:
        """How many of them a journal still has whose oldest offset is given."""
        rest = find_unsettled(max(self.cursor.position, oldest), self.head, self.cursor.ahead)
        return sum(stop - start for start, stop in rest)

    def is_settled(self, offset: int) -> bool:
        """Whether the lane has an outcome for the event at this offset; it must not be older than the lane."""
        return self.cursor.is_settled(offset)


@dataclass(frozen=True, slots=True)
class Refusals:
    """That a source has refused every request, from `since` on."""

    since: float
    """Unix seconds of the first refusal after the last 2xx."""
    last: float
    """Unix seconds of the last one."""
    status: int
    """Of the last one."""
    reason: str
    deadline: float | None
    """Unix seconds at which the sender stops for good; None: not known."""


@dataclass(frozen=True, slots=True)
class SourceLedger:
    """What a source counts."""

    source: str
    duplicates: int = 0
    """Events left out because they had come before."""
    refusals: Refusals | None = None
    """None: it takes requests, or has refused them only for a moment."""


SOURCE_COLUMNS: Final = "name, duplicates, failing_since, last, status, reason, deadline"


def source_ledger_of(name: str, duplicates: int, since: float | None, *rest: Any) -> SourceLedger:
    """Return the ledger of a source that a row's `SOURCE_COLUMNS` hold."""
    return SourceLedger(name, duplicates, None if since is None else Refusals(since, *rest))


def read_sources(db: sqlite3.Connection) -> list[SourceLedger]:
    """Return what every source counted when it was saved last, by name."""
    query = f"SELECT {SOURCE_COLUMNS} FROM source ORDER BY name"  # noqa: S608
    return [*starmap(source_ledger_of, db.execute(query))]


def save_sources(db: sqlite3.Connection, counted: Sequence[SourceLedger]) -> None:
    """Save what sources count."""
    rows = [(one.source, one.duplicates, *(astuple(one.refusals) if one.refusals else [None] * 5)) for one in counted]
    db.executemany(f"REPLACE INTO source ({SOURCE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608


def read_memories(db: sqlite3.Connection) -> dict[str, str]:
    """Return what each source wants to know after a restart, by the name of the source."""
    return dict(db.execute("SELECT name, memory FROM source_memory").fetchall())


def save_memory(db: sqlite3.Connection, source: str, memory: str) -> None:
    """Save what a source wants to know after a restart."""
    db.execute("REPLACE INTO source_memory VALUES (?, ?)", (source, memory))


def read_source_ledgers(folder: Path) -> list[SourceLedger]:
    """Read the ledgers of all sources, by name; up to a minute old. Raises FileNotFoundError, sqlite3.Error."""
    with closing(connect(folder, "ro")) as db:
        return read_sources(db)


def read_lane_ledgers(folder: Path) -> list[LaneLedger]:
    """All read_lanes_if_any of a state folder, the one saved last first. Raises FileNotFoundError, sqlite3.Error."""
    with closing(connect(folder, "ro")) as db:
        return [*starmap(LaneLedger, load_cursors(db))]


def read_lanes_if_any(folder: Path) -> list[LaneLedger]:
    """Read the ledgers of all lanes; return none if no relay has run with the folder."""
    try:
        return read_lane_ledgers(folder)
    except FileNotFoundError:
        return []


def read_ledger(folder: Path) -> dict[str, Ledger]:
    """Read the count of each outcome of every connector as last saved, over all workers.

    Raises FileNotFoundError, sqlite3.Error."""
    found: dict[str, Ledger] = {}
    lanes = [lane for mine in worker_folders(folder).values() for lane in read_lane_ledgers(mine)]
    for lane in sorted(lanes, key=lambda lane: lane.connector):
        found[lane.connector] = lane.ledger + found[lane.connector] if lane.connector in found else lane.ledger
    return found


def acknowledged_head(lanes: Sequence[LaneLedger]) -> int:
    """The offset below which all events were acknowledged: the head that was saved last.

    Lanes that run are saved together; an older row is of a connector that is gone, perhaps with a journal of its time.
    """
    return lanes[0].head if lanes else 0
