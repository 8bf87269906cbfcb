"""Attempts of a lane: how many there were since the start, and what those came to that did not deliver everything."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from relay.api import Batch
from relay.deliver.result import Verdict
from relay.histogram import QUICK, SLOW, Histogram
from relay.state import Attempts, make_ranges

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


class AttemptLog:
    """The attempts at one destination that are worth a note, the last one at the same events in place of the others."""

    def __init__(self, connector: str) -> None:
        self._connector = connector
        self._noted: dict[tuple[str, int, int, int, int], Attempts] = {}

    def add(self, batch: Batch, verdict: Verdict, replay: int, before: int = 0) -> None:
        """Note what came of an attempt at events that were tried so often before they were parked: nothing, if it was
        the first one and delivered everything."""
        attempts = before + batch.attempt
        refused = [refusal.number for refusal in verdict.refused]
        for why in verdict.deferred:
            self._put(batch, why.numbers, "pending", why.reason, replay, attempts)
        self._put(batch, verdict.skipped, "filtered", verdict.why_skipped, replay, attempts)
        self._put(batch, refused, "parked", verdict.refused[0].reason if refused else "", replay, attempts)
        if verdict.delivered and attempts > 1:
            others = {*verdict.again, *verdict.skipped, *refused}
            self._put(batch, [n for n in range(len(batch)) if n not in others], "delivered", "", replay, attempts)

    def _put(
        self,
        batch: Batch,
        numbers: Sequence[int],
        outcome: Literal["pending", "delivered", "filtered", "parked"],
        answer: str,
        replay: int,
        attempts: int,
    ) -> None:
        if not numbers:
            return
        offsets, now = batch.offsets(), time.time()
        ranges = make_ranges([offsets[number] for number in numbers])
        made = Attempts(self._connector, replay, ranges, attempts, outcome, answer, now, now)
        self._noted[made.key] = made

    def snapshot(self) -> tuple[Attempts, ...]:
        """What is to be saved; hand it to `saved` once it is."""
        return tuple(self._noted.values())

    def saved(self, notes: Sequence[Attempts]) -> None:
        """These are on disk."""
        for one in notes:
            if self._noted.get(one.key) is one:
                del self._noted[one.key]
