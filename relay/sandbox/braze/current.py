"""A Current of Braze: queues and batches by type, retries, and the end of the Current. No I/O."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from relay.catalogue import TYPES
from relay.sandbox.braze.reactions import (
    DAY_S,
    PAGES,
    CurrentsSwitches,
    Reaction,
    ReactionRules,
    choose_reaction,
    compute_backoff,
)

BATCH_EVENTS: Final = 100
MOST_BYTES: Final = 900_000
"""Braze drops an event over 900 KB."""


@dataclass(slots=True)
class CurrentCounts:
    """Events by their outcome: sent = accepted + dropped + lost + waiting.

    `retried` counts an event at every retry, `repeated` at every repetition by the switches `repeat` and `repeat_part`.
    """

    sent: int = 0
    accepted: int = 0
    retried: int = 0
    repeated: int = 0
    dropped: int = 0
    """Braze has given the events up."""
    lost: int = 0
    """Never queued: over 900 KB, or sent while the Current was stopped."""


@dataclass(frozen=True, slots=True)
class CurrentBatch:
    """The events of one request."""

    events: tuple[bytes, ...]
    since: float
    """Time at which the batch was complete."""
    attempt: int = 1
    refused: bool = False
    again: bool = False
    """A repetition: the destination has accepted the events before."""

    def make_body(self) -> bytes:
        """Return the body that Braze sends."""
        return b'{"events":[' + b",".join(self.events) + b"]}"

    def split_in_halves(self) -> "Sequence[CurrentBatch]":
        """Return two batches with a half of the events each."""
        middle = len(self.events) // 2
        return [replace(self, events=part, attempt=1) for part in (self.events[:middle], self.events[middle:])]

    def split_in_singles(self) -> "Sequence[CurrentBatch]":
        """Return a batch for each event."""
        return [replace(self, events=(event,), attempt=1, refused=True) for event in self.events]


@dataclass(slots=True)
class Current:
    """A Current. A sender takes batches from the Current and settles them. `now` is Unix seconds."""

    switches: CurrentsSwitches = field(default_factory=CurrentsSwitches)
    rng: Random = field(default_factory=Random)
    counts: CurrentCounts = field(default_factory=CurrentCounts)
    waiting: int = 0
    """Events that were queued, and are neither accepted nor dropped."""
    failing_since: float | None = None
    """The first failure after the last 2xx."""
    stopped: str | None = None
    """Why Braze has stopped the Current."""
    _stopped_at: float = 0.0
    _filling: dict[str, tuple[float, list[bytes]]] = field(default_factory=dict)
    """The incomplete batch of each type: time of the first event, and the events."""
    _ready: list[tuple[float, int, CurrentBatch]] = field(default_factory=list)
    """A heap of complete batches by the time at which they are due."""
    _number: int = 0

    @property
    def rules(self) -> ReactionRules:
        """The rules in force."""
        return PAGES[self.switches.page]

    def count_filling(self) -> dict[str, int]:
        """Count the events of each incomplete batch, by type."""
        return {kind: len(events) for kind, (_, events) in self._filling.items()}

    def add(self, kind: str, body: bytes, now: float) -> bool:
        """Queue an event, if the Current has its type. Return whether the time of the next batch may have changed."""
        if self.switches.entitlement == "messages" and kind in TYPES and TYPES[kind].group != "message_engagement":
            return False
        self.counts.sent += 1
        if self.stopped or len(body) > MOST_BYTES:
            self.counts.lost += 1
            return False
        self.waiting += 1
        _, events = self._filling.setdefault(kind, (now, []))
        events.append(body)
        if len(events) >= BATCH_EVENTS:
            self._complete(kind, now)
        return len(events) in (1, BATCH_EVENTS)

    def flush(self, now: float) -> None:
        """Complete all batches at once."""
        for kind in [*self._filling]:
            self._complete(kind, now)

    def take(self, now: float) -> CurrentBatch | None:
        """Return the next batch to send, or None if no batch is due."""
        self._advance(now)
        if self.stopped or not self._ready or self._ready[0][0] > now:
            return None
        return heapq.heappop(self._ready)[2]

    def find_due(self) -> float:
        """Return the time of the next call of `take`, if nothing else happens before."""
        if self.stopped:
            return self._stopped_at + self.rules.keep if self.waiting else math.inf
        moments = [since + self.switches.age for since, _ in self._filling.values()]
        return min([*moments, *(due for due, _, _ in self._ready[:1]), self._find_deadline()])

    def settle(self, batch: CurrentBatch, status: int | None, now: float) -> None:
        """Retry, drop or finish a batch after its answer; None is a network error."""
        match choose_reaction(status, len(batch.events), refused=batch.refused):
            case Reaction.DONE:
                self._accept(batch, now)
            case Reaction.DROP:
                self._drop(batch)
            case Reaction.SINGLES:
                self._retry_all(batch.split_in_singles(), now)
            case Reaction.HALVES:
                self._retry_all(batch.split_in_halves(), now)
            case Reaction.WAIT:
                if self.failing_since is None:
                    self.failing_since = now
                pause = compute_backoff(batch.attempt, self.switches.retry_first, self.switches.retry_max, self.rng)
                self._retry(batch, now, pause, self.rules.failing_for)
            case Reaction.WRONG:
                if self.rules.wrong_again is None:
                    self._stop(f"HTTP {status}", now)
                    self._drop(batch)
                else:
                    self._retry(batch, now, self.rng.uniform(*self.rules.wrong_again), self.rules.wrong_for)

    def enable(self, now: float) -> None:
        """Switch a stopped Current on again. The events that are still queued are sent."""
        self._advance(now)
        self.stopped = self.failing_since = None

    def _advance(self, now: float) -> None:
        """Complete batches by age, disable the Current after its last day, drop the events of a stopped Current."""
        for kind, (since, _) in [*self._filling.items()]:
            if since + self.switches.age <= now:
                self._complete(kind, now)
        if not self.stopped and now >= self._find_deadline():
            self._stop(f"disabled after {self.rules.disable_after / DAY_S:g} days of errors", now)
        if self.stopped and now >= self._stopped_at + self.rules.keep:
            self.flush(now)
            while self._ready:
                self._drop(self._ready.pop()[2])

    def _find_deadline(self) -> float:
        return math.inf if self.failing_since is None else self.failing_since + self.rules.disable_after

    def _complete(self, kind: str, now: float) -> None:
        _, events = self._filling.pop(kind)
        self._put(CurrentBatch(tuple(events), now), now)

    def _put(self, batch: CurrentBatch, due: float) -> None:
        self._number += 1
        heapq.heappush(self._ready, (due, self._number, batch))

    def _retry_all(self, batches: Sequence[CurrentBatch], due: float) -> None:
        for batch in batches:
            self.counts.retried += len(batch.events)
            self._put(batch, due)

    def _accept(self, batch: CurrentBatch, now: float) -> None:
        self.failing_since = None
        if batch.again:
            return
        self.counts.accepted += len(batch.events)
        self.waiting -= len(batch.events)
        if self.rng.random() < self.switches.repeat:
            self._repeat(batch.events, now)
        if self.rng.random() < self.switches.repeat_part:
            self._repeat(self.rng.sample(batch.events, self.rng.randint(1, len(batch.events))), now)

    def _repeat(self, events: Sequence[bytes], now: float) -> None:
        self.counts.repeated += len(events)
        self._put(CurrentBatch(tuple(events), now, again=True), now)

    def _drop(self, batch: CurrentBatch) -> None:
        if not batch.again:
            self.counts.dropped += len(batch.events)
            self.waiting -= len(batch.events)

    def _retry(self, batch: CurrentBatch, now: float, pause: float, longest: float) -> None:
        """Retry a batch after a pause, or drop a batch that is older than `longest` seconds."""
        if now - batch.since > longest:
            self._drop(batch)
        else:
            self._retry_all([replace(batch, attempt=batch.attempt + 1)], now + pause)

    def _stop(self, reason: str, now: float) -> None:
        if not self.stopped:
            self.stopped, self._stopped_at = reason, now
