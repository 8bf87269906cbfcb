"""Attempts at a destination: metrics since the start, and a log of attempts that did not deliver everything."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from relay.api import Batch
from relay.deliver.result import AttemptResult
from relay.histogram import QUICK, SLOW, Histogram
from relay.store import Attempts, make_ranges

OUTCOMES: Final = ("delivered", "retried", "refused", "unauthorized", "bug")
"""What an attempt came to. `delivered`: the attempt settled every event. `retried`: some events are tried again.
`refused`: the destination refused events for good. `unauthorized`: the destination does not accept relay. `bug`: the
connector did what it must not do."""


@dataclass(slots=True)
class AttemptMetrics:
    """Metrics that only grow."""

    attempts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    """Attempts, by OUTCOMES."""
    parked: int = 0
    """Events that were parked, by the lane and by replays. An event counts each time."""
    attempt: Histogram = field(default_factory=lambda: Histogram(QUICK))
    """Durations of attempts, in seconds."""
    end_to_end: Histogram = field(default_factory=lambda: Histogram(SLOW))
    """Seconds from the receipt of an event to its delivery. Replays do not count."""

    def count_attempt(self, result: AttemptResult, seconds: float) -> None:
        """Count an attempt that has ended and took so many seconds."""
        self.attempts[classify_result(result)] += 1
        self.attempt.observe(seconds)

    def count_delivered(self, batch: Batch) -> None:
        """Count the delay of each event of a batch that was delivered."""
        now = time.time()
        for block in batch.blocks:
            self.end_to_end.observe(max(0.0, now - block.received), len(block))


def classify_result(result: AttemptResult) -> str:
    """Return which of OUTCOMES a result is. The worst that happened to an event decides."""
    if result.delivered and not (result.deferred or result.refused):
        return "delivered"
    if any(why.unauthorized for why in result.deferred):
        return "unauthorized"
    if any(why.bug for why in result.deferred):
        return "bug"
    if result.deferred:
        return "retried"
    return "refused" if result.refused else "delivered"


class AttemptLog:
    """Keeps the attempts at one destination until they are saved. The last attempt at the same events
    replaces earlier attempts."""

    def __init__(self, connector: str) -> None:
        self._connector = connector
        self._unsaved: dict[tuple[str, int, int, int, int], Attempts] = {}

    def add(self, batch: Batch, result: AttemptResult, replay: int, before: int = 0) -> None:
        """Add an attempt at a batch whose events were tried `before` times until they were parked. Leave out a first
        attempt that delivered everything."""
        attempts = before + batch.attempt
        for why in result.deferred:
            self._put(batch, why.numbers, "pending", why.reason, replay, attempts)
        self._put(batch, result.skipped, "filtered", result.why_skipped, replay, attempts)
        if result.refused:
            self._put(batch, result.refused_numbers, "parked", result.refused[0].reason, replay, attempts)
        if result.delivered and attempts > 1:
            self._put(batch, result.find_delivered(len(batch)), "delivered", "", replay, attempts)

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
        self._unsaved[made.key] = made

    def snapshot(self) -> tuple[Attempts, ...]:
        """Return what to save. Hand it to `mark_saved` after the save."""
        return tuple(self._unsaved.values())

    def mark_saved(self, attempts: Sequence[Attempts]) -> None:
        """Forget attempts that are on disk."""
        for one in attempts:
            if self._unsaved.get(one.key) is one:
                del self._unsaved[one.key]
