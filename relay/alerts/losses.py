"""Finds the losses of connectors. A loss is reported for a day, because nothing is wrong afterwards. Pure."""

from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from relay.status import Condition, Status
from relay.words import format_count

LASTS_S: Final = 86400.0


class Loss(Struct, frozen=True):
    """Expired events of one connector."""

    ever: int
    """As in the ledger."""
    events: int = 0
    """Since the loss began."""
    since: float = 0.0
    last: float = 0.0


class Losses(Struct):
    """Compares each status with the one before."""

    _losses: dict[str, Loss] = field(default_factory=dict)

    def find(self, status: Status) -> list[Condition]:
        """Return the losses of the last day."""
        now = status.now
        found: list[Condition] = []
        for lane in status.lanes:
            name, ever = lane.connector, lane.outcomes.get("expired", 0)
            loss = self._losses.get(name, Loss(ever))
            is_ongoing = loss.events > 0 and now - loss.last < LASTS_S
            if ever > loss.ever:
                events, since = (loss.events, loss.since) if is_ongoing else (0, now)
                loss, is_ongoing = Loss(ever, events + ever - loss.ever, since, now), True
            self._losses[name] = replace(loss, ever=ever)
            if is_ongoing:
                what = f"{format_count(loss.events, 'event')} expired"
                said = f"{name}: {what}: the journal could not keep them any longer"
                do = "make room (journal.max_size), or see why the connector is behind"
                facts = {"expired": loss.events, "pending": lane.pending, "do": do}
                found.append(Condition("expired", f"connector {name}", f"{said}; {do}", loss.since, facts))
        return found
