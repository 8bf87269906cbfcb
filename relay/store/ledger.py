"""The last saved ledgers of lanes and sources. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import astuple

from relay.store.cursor import Cursor, Ledger, find_unsettled
from relay.words import format_ranges

Range = tuple[int, int]
"""Offsets from the first number up to the second, exclusive."""
SOURCE_COLUMNS: Final = "name, duplicates, failing_since, last, status, reason, deadline"
"""The columns of a source's ledger in a table."""


class LaneLedger(Struct, frozen=True):
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
        return sum(stop - start for start, stop in self.find_unsettled_in(oldest, self.head))

    def count_later(self, oldest: int, head: int) -> int:
        """Count the events from the last saved head on that the journal still has.

        A lane that ended then has not accepted them, and gets them if it goes on.
        """
        return max(0, head - max(self.head, oldest))

    def find_unsettled_in(self, start: int, stop: int) -> list[Range]:
        """Find the offsets from `start` up to `stop` without an outcome."""
        return find_unsettled(max(self.cursor.position, start), stop, self.cursor.ahead)

    def is_settled(self, offset: int) -> bool:
        """Return whether the event at this offset has an outcome. It must not be older than the lane."""
        return self.cursor.is_settled(offset)


class Refusals(Struct, frozen=True):
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


class SourceLedger(Struct, frozen=True):
    """The counts of a source."""

    source: str
    duplicates: int = 0
    """Events left out as duplicates."""
    refusals: Refusals | None = None
    """None: the source takes requests, or has refused them only for a moment."""


def encode_source_ledger(one: SourceLedger) -> tuple[object, ...]:
    """Return the values of a source's ledger for `SOURCE_COLUMNS`."""
    return one.source, one.duplicates, *(astuple(one.refusals) if one.refusals else [None] * 5)


def parse_source_ledger(name: str, duplicates: int, since: float | None, *rest: Any) -> SourceLedger:
    """Parse a source's ledger from a row with `SOURCE_COLUMNS`."""
    return SourceLedger(name, duplicates, None if since is None else Refusals(since, *rest))


def merge_sources(ledgers: Iterable[SourceLedger]) -> list[SourceLedger]:
    """Sum the counts of each source over the ledgers of all processes, by name. Keep the refusals that began first."""
    by_name: dict[str, list[SourceLedger]] = {}
    for one in ledgers:
        by_name.setdefault(one.source, []).append(one)
    merged = []
    for name, its in sorted(by_name.items()):
        refusals = [one.refusals for one in its if one.refusals]
        first = min(refusals, key=lambda refusal: refusal.since, default=None)
        merged.append(SourceLedger(name, sum(one.duplicates for one in its), first))
    return merged


def merge_ledgers(lanes: Iterable[LaneLedger]) -> dict[str, Ledger]:
    """Sum the counts of each connector over the lanes of all partitions."""
    found: dict[str, Ledger] = {}
    for lane in sorted(lanes, key=lambda lane: lane.connector):
        found[lane.connector] = lane.ledger + found[lane.connector] if lane.connector in found else lane.ledger
    return found


def describe_missed(lanes: Sequence[LaneLedger], start: int, stop: int) -> str:
    """Describe which connectors had no outcome of the events from offset `start` up to `stop`, and which had all."""
    missed = {lane.connector: lane.find_unsettled_in(start, stop) for lane in lanes}
    parts = [
        f"{name} had not got {sum(end - first for first, end in its):,} ({format_ranges(its)})"
        for name, its in sorted(missed.items())
        if its
    ]
    if had := sorted(name for name, its in missed.items() if not its):
        parts.append(f"{', '.join(had)} had got all")
    return f"of these, {', '.join(parts) or 'no connector had got any'}"


def find_acknowledged_head(lanes: Sequence[LaneLedger]) -> int:
    """Return the last saved head, below which all events were acknowledged.

    Running lanes are saved together. An older row is a removed connector's, perhaps with an older journal.
    """
    return lanes[0].head if lanes else 0
