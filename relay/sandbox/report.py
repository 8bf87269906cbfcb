"""What the demonstration counted, whether it balances, and how it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.sandbox.braze.current import CurrentCounts
from relay.state import Ledger

COLUMNS: Final = (
    "connector",
    "accepted",
    "wanted",
    "delivered",
    "unselected",
    "filtered",
    "parked",
    "pending",
    "arrived",
    "balances",
)


@dataclass(frozen=True, slots=True)
class ReportedLane:
    """A connector's books, beside what really arrived at its destination."""

    connector: str
    ledger: Ledger
    arrived: int
    """Distinct ids found at the destination."""

    @property
    def balances(self) -> bool:
        """Whether every event has an outcome and those delivered are there."""
        return self.ledger.pending == 0 and self.arrived == self.ledger.counts.delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The whole demonstration in numbers of events."""

    sent: int
    accepted: int
    """Answered 2xx."""
    unreadable: int
    """Sent broken on purpose; they are accepted and parked at the source."""
    parked_at_source: int
    lanes: Sequence[ReportedLane]

    def balances(self, lane: ReportedLane) -> bool:
        """Whether the lane balances and had all to do with what was accepted and could be read."""
        return lane.balances and lane.ledger.accepted == self.accepted - self.parked_at_source

    @property
    def all_balance(self) -> bool:
        """Whether everything that was sent is accounted for."""
        sent = self.sent == self.accepted and self.parked_at_source == self.unreadable
        return sent and bool(self.lanes) and all(map(self.balances, self.lanes))

    def rows(self) -> list[dict[str, str | int | bool]]:
        """A row per lane, by the names of `COLUMNS`."""
        return [self._row(lane) for lane in self.lanes]

    def _row(self, lane: ReportedLane) -> dict[str, str | int | bool]:
        counts = lane.ledger.counts
        cells = (
            lane.connector,
            lane.ledger.accepted,
            lane.ledger.accepted - counts.unselected,
            counts.delivered,
            counts.unselected,
            counts.filtered,
            counts.parked,
            lane.ledger.pending,
            lane.arrived,
            self.balances(lane),
        )
        return dict(zip(COLUMNS, cells, strict=True))


def table(result: Result) -> str:
    """Write the result for people."""
    lines = [COLUMNS, *(tuple(map(_cell, row.values())) for row in result.rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    written = [_line(line, widths) for line in lines]
    head = f"sent {result.sent:,}, accepted (2xx) {result.accepted:,}, parked at the source {result.parked_at_source:,}"
    verdict = "Everything balances." if result.all_balance else "It does NOT balance."
    return "\n".join([f"{head} ({result.unreadable:,} sent unreadable on purpose)", "", *written, "", verdict])


def progress(counts: CurrentCounts, books: Mapping[str, Ledger]) -> str:
    """Write one line of what has happened so far."""
    lanes = [f"{name} {book.counts.delivered:,} delivered, {book.pending:,} pending" for name, book in books.items()]
    return " | ".join([f"{counts.sent:,} sent, {counts.accepted:,} accepted", *lanes])


def _cell(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return value if isinstance(value, str) else f"{value:,}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = cells
    return "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])])
