"""The counts of the demo: whether they balance, and how a table shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.sandbox.braze.current import CurrentCounts
from relay.store import Ledger

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
    """The ledger of a connector, beside the events that arrived at its destination."""

    connector: str
    ledger: Ledger
    arrived: int
    """Distinct ids found at the destination."""

    @property
    def balances(self) -> bool:
        """Return whether every event has an outcome, and the delivered events have arrived."""
        return self.ledger.pending == 0 and self.arrived == self.ledger.counts.delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The numbers of events of a demo."""

    sent: int
    accepted: int
    """Events answered 2xx."""
    unreadable: int
    """Events that were sent broken on purpose. Relay accepts them and parks them at the source."""
    parked_at_source: int
    lanes: Sequence[ReportedLane]

    def balances(self, lane: ReportedLane) -> bool:
        """Return whether a lane balances and has had every accepted event that can be read."""
        return lane.balances and lane.ledger.accepted == self.accepted - self.parked_at_source

    @property
    def all_balance(self) -> bool:
        """Return whether every sent event has an outcome."""
        sent = self.sent == self.accepted and self.parked_at_source == self.unreadable
        return sent and bool(self.lanes) and all(map(self.balances, self.lanes))

    def make_rows(self) -> list[dict[str, str | int | bool]]:
        """Return a row for each lane, with the names of `COLUMNS`."""
        return [
            {
                "connector": lane.connector,
                "accepted": lane.ledger.accepted,
                "wanted": lane.ledger.accepted - lane.ledger.counts.unselected,
                "delivered": lane.ledger.counts.delivered,
                "unselected": lane.ledger.counts.unselected,
                "filtered": lane.ledger.counts.filtered,
                "parked": lane.ledger.counts.parked,
                "pending": lane.ledger.pending,
                "arrived": lane.arrived,
                "balances": self.balances(lane),
            }
            for lane in self.lanes
        ]


def format_result(result: Result) -> str:
    """Format a result as a table for people."""
    lines = [COLUMNS, *(tuple(map(_format_cell, row.values())) for row in result.make_rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in lines]
    head = f"sent {result.sent:,}, accepted (2xx) {result.accepted:,}, parked at the source {result.parked_at_source:,}"
    conclusion = "Everything balances." if result.all_balance else "It does NOT balance."
    return "\n".join([f"{head} ({result.unreadable:,} sent unreadable on purpose)", "", *table, "", conclusion])


def format_progress(counts: CurrentCounts, ledgers: Mapping[str, Ledger]) -> str:
    """Format the present counts as one line."""
    lanes = [f"{name} {one.counts.delivered:,} delivered, {one.pending:,} pending" for name, one in ledgers.items()]
    return " | ".join([f"{counts.sent:,} sent, {counts.accepted:,} accepted", *lanes])


def _format_cell(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return value if isinstance(value, str) else f"{value:,}"
