"""What the attempts of one lane came to since the start: counted per attempt, never per event."""

import time
from dataclasses import dataclass, field
from typing import Final

from relay.api import Batch
from relay.deliver.verdict import Verdict
from relay.histogram import QUICK, SLOW, Histogram

OUTCOMES: Final = ("delivered", "retried", "refused", "unauthorized", "bug")
"""Of an attempt: all that matters of it was taken; some of it comes again; the destination refused events; it does not
accept us at all; the connector did what it should not."""


@dataclass(slots=True)
class Meter:
    """Counts that only grow."""

    attempts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    """By OUTCOMES."""
    parked: int = 0
    """Events put aside, those of replays included, however often."""
    attempt: Histogram = field(default_factory=lambda: Histogram(QUICK))
    """Seconds that attempts took."""
    end_to_end: Histogram = field(default_factory=lambda: Histogram(SLOW))
    """Seconds from an event's receipt to its delivery, without those of replays."""

    def attempted(self, verdict: Verdict, seconds: float) -> None:
        """An attempt has ended."""
        self.attempts[outcome_of(verdict)] += 1
        self.attempt.observe(seconds)

    def delivered(self, batch: Batch) -> None:
        """These events were delivered."""
        now = time.time()
        for block in batch.blocks:
            self.end_to_end.observe(max(0.0, now - block.received), len(block))


def outcome_of(verdict: Verdict) -> str:
    """The worst of what an attempt came to, as one of OUTCOMES."""
    if verdict.delivered and not (verdict.deferred or verdict.refused):
        return "delivered"
    if any(why.unauthorized for why in verdict.deferred):
        return "unauthorized"
    if any(why.bug for why in verdict.deferred):
        return "bug"
    if verdict.deferred:
        return "retried"
    return "refused" if verdict.refused else "delivered"
