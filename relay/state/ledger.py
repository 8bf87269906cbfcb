"""The ledgers of all lanes as last saved in a state folder: read only, whether relay runs or not."""

from array import array
from collections.abc import Mapping, MutableSequence, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay.state.cursor import CURSOR_COLUMNS, Cursor, Ledger, find_unsettled, read_cursor
from relay.state.layout import worker_folders
from relay.state.parked import connect

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


def read_source_ledgers(folder: Path) -> list[SourceLedger]:
    """Read the ledgers of all sources, by name; up to a minute old. Raises FileNotFoundError, sqlite3.Error."""
    query = f"SELECT {SOURCE_COLUMNS} FROM source ORDER BY name"  # noqa: S608
    return [source_ledger_of(*row) for row in _query(folder, query)]


def read_lane_ledgers(folder: Path) -> list[LaneLedger]:
    """Read the ledgers of all lanes of a folder, the newest first. Raises FileNotFoundError, sqlite3.Error."""
    query = f"SELECT connector, head, {CURSOR_COLUMNS} FROM cursor ORDER BY saved DESC, connector"  # noqa: S608
    return [LaneLedger(name, head, read_cursor(*columns)) for name, head, *columns in _query(folder, query)]


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


def read_parked_offsets(folder: Path) -> Mapping[str, Sequence[int]]:
    """Read the offset of every event of which a lane has parked anything, by connector. Replays have
    ledgers of their own.

    Raises FileNotFoundError, sqlite3.Error.
    """
    query = """
        SELECT DISTINCT connector, offset FROM parked WHERE connector IS NOT NULL AND replay IS NULL
        ORDER BY connector, offset
    """
    found: dict[str, MutableSequence[int]] = {}
    with closing(connect(folder, "ro")) as db:
        for connector, offset in db.execute(query):
            found.setdefault(connector, array("q")).append(offset)  # a million take no more than 8 MB
    return found


def _query(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """Query the database read-only. Raises FileNotFoundError, sqlite3.Error."""
    with closing(connect(folder, "ro")) as db:
        return db.execute(query).fetchall()
