"""Finds the losses of connectors. A loss is reported for a day, because nothing is wrong afterwards. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from relay.status import Condition, LaneStatus, Status
from relay.words import format_count

LASTS_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Expired events of one connector."""

    ever: int
    """As in the ledger."""
    events: int = 0
    """Since the loss began."""
    since: float = 0.0
    last: float = 0.0


@dataclass(slots=True)
class Losses:
    """Compares each status with the one before."""

    _losses: dict[str, Loss] = field(default_factory=dict)

    def find(self, status: Status) -> list[Condition]:
        """Return the losses of the last day."""
        return [*self._find_ongoing(status)]

    def _find_ongoing(self, status: Status) -> Iterator[Condition]:
        now = status.now
        for lane in status.lanes:
            loss = self._losses[lane.connector] = self._count(lane, now)
            if loss.events and now - loss.last < LASTS_S:
                name = lane.connector
                what = f"{format_count(loss.events, 'event')} expired"
                said = f"{name}: {what}: the journal could not keep them any longer"
                do = "make room (journal.max_size), or see why the connector is behind"
                facts = {"expired": loss.events, "pending": lane.pending, "do": do}
                yield Condition("expired", f"connector {name}", f"{said}; {do}", loss.since, facts)

    def _count(self, lane: LaneStatus, now: float) -> Loss:
        ever = lane.outcomes.get("expired", 0)
        before = self._losses.get(lane.connector, Loss(ever))
        if ever <= before.ever:
            return Loss(ever, before.events, before.since, before.last)
        goes_on = before.events and now - before.last < LASTS_S
        events, since = (before.events, before.since) if goes_on else (0, now)
        return Loss(ever, events + ever - before.ever, since, now)
