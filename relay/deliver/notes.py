"""Keeps note of attempts that did not deliver all at once, until the notes are saved with the cursors."""

import time
from collections.abc import Sequence
from typing import Literal

from relay.api import Batch
from relay.deliver.verdict import Verdict
from relay.journal import Attempts, runs


class Notes:
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
        ranges = runs([offsets[number] for number in numbers])
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
