"""What Braze does with the events of a Current: queues and batches by type, the life of the whole. No I/O in here."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from relay.catalogue import TYPES
from relay.sandbox.braze.reactions import DAY_S, PAGES, CurrentsSwitches, Reaction, ReactionRules, after, backoff

BATCH_EVENTS: Final = 100
MOST_BYTES: Final = 900_000
"""Braze drops an event over 900 KB."""


@dataclass(slots=True)
class CurrentCounts:
    """Events by what became of them: sent = accepted + dropped + lost + what waits.

    `retried` and `repeated` count an event each time it goes out again, because it had to or by `repeat`.
    """

    sent: int = 0
    accepted: int = 0
    retried: int = 0
    repeated: int = 0
    dropped: int = 0
    """Given up."""
    lost: int = 0
    """Never queued: over 900 KB, or come while the Current was stopped."""


@dataclass(frozen=True, slots=True)
class CurrentBatch:
    """What goes out in one request."""

    events: tuple[bytes, ...]
    since: float
    """When it was complete."""
    attempt: int = 1
    refused: bool = False
    again: bool = False
    """Accepted before."""

    def body(self) -> bytes:
        """As Braze sends it."""
        return b'{"events":[' + b",".join(self.events) + b"]}"

    def halves(self) -> "Sequence[CurrentBatch]":
        """The same in two."""
        middle = len(self.events) // 2
        return [replace(self, events=part, attempt=1) for part in (self.events[:middle], self.events[middle:])]

    def singles(self) -> "Sequence[CurrentBatch]":
        """The same one by one."""
        return [replace(self, events=(event,), attempt=1, refused=True) for event in self.events]


@dataclass(slots=True)
class Current:
    """One Current. Whoever has the connections takes batches from it and settles them; `now` is Unix seconds."""

    switches: CurrentsSwitches = field(default_factory=CurrentsSwitches)
    rng: Random = field(default_factory=Random)
    counts: CurrentCounts = field(default_factory=CurrentCounts)
    waiting: int = 0
    """Events that were sent but neither accepted nor dropped so far."""
    failing_since: float | None = None
    """The first failure after the last 2xx."""
    stopped: str | None = None
    """Why Braze has given it up."""
    _stopped_at: float = 0.0
    _filling: dict[str, tuple[float, list[bytes]]] = field(default_factory=dict)
    """Of each type, since when it fills and with what."""
    _ready: list[tuple[float, int, CurrentBatch]] = field(default_factory=list)
    """A heap by when they are due."""
    _number: int = 0

    @property
    def rules(self) -> ReactionRules:
        """Those that are in force."""
        return PAGES[self.switches.page]

    def queues(self) -> dict[str, int]:
        """Events of each type whose batch is not full."""
        return {kind: len(events) for kind, (_, events) in self._filling.items()}

    def add(self, kind: str, body: bytes, now: float) -> bool:
        """Queue an event, if the Current has its type. Tell whether there is something new to wait for."""
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
        """Wait for no more events."""
        for kind in [*self._filling]:
            self._complete(kind, now)

    def take(self, now: float) -> CurrentBatch | None:
        """The next batch to send, if one is due."""
        self._look(now)
        if self.stopped or not self._ready or self._ready[0][0] > now:
            return None
        return heapq.heappop(self._ready)[2]

    def due(self) -> float:
        """When `take` is to be called again, if nothing else happens before."""
        if self.stopped:
            return self._stopped_at + self.rules.keep if self.waiting else math.inf
        moments = [since + self.switches.age for since, _ in self._filling.values()]
        return min([*moments, *(due for due, _, _ in self._ready[:1]), self._deadline()])

    def settle(self, batch: CurrentBatch, status: int | None, now: float) -> None:
        """Draw the conclusions from an answer; None is a network error."""
        match after(status, len(batch.events), refused=batch.refused):
            case Reaction.DONE:
                self._done(batch, now)
            case Reaction.DROP:
                self._drop(batch)
            case Reaction.SINGLES:
                self._again(batch.singles(), now)
            case Reaction.HALVES:
                self._again(batch.halves(), now)
            case Reaction.WAIT:
                self._wait(batch, now)
            case Reaction.WRONG:
                self._wrong(batch, f"HTTP {status}", now)

    def enable(self, now: float) -> None:
        """Switch it on again by hand; what is still queued goes out."""
        self._look(now)
        self.stopped = self.failing_since = None

    def _look(self, now: float) -> None:
        """Do what is due by itself."""
        for kind, (since, _) in [*self._filling.items()]:
            if since + self.switches.age <= now:
                self._complete(kind, now)
        if not self.stopped and now >= self._deadline():
            self._stop(f"disabled after {self.rules.disable_after / DAY_S:g} days of errors", now)
        if self.stopped and now >= self._stopped_at + self.rules.keep:
            self.flush(now)
            while self._ready:
                self._drop(self._ready.pop()[2])

    def _deadline(self) -> float:
        return math.inf if self.failing_since is None else self.failing_since + self.rules.disable_after

    def _complete(self, kind: str, now: float) -> None:
        _, events = self._filling.pop(kind)
        self._put(CurrentBatch(tuple(events), now), now)

    def _put(self, batch: CurrentBatch, due: float) -> None:
        self._number += 1
        heapq.heappush(self._ready, (due, self._number, batch))

    def _again(self, batches: Sequence[CurrentBatch], due: float) -> None:
        for batch in batches:
            self.counts.retried += len(batch.events)
            self._put(batch, due)

    def _done(self, batch: CurrentBatch, now: float) -> None:
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

    def _wait(self, batch: CurrentBatch, now: float) -> None:
        if self.failing_since is None:
            self.failing_since = now
        if now - batch.since > self.rules.failing_for:
            return self._drop(batch)
        pause = backoff(batch.attempt, self.switches.retry_first, self.switches.retry_max, self.rng)
        return self._again([replace(batch, attempt=batch.attempt + 1)], now + pause)

    def _wrong(self, batch: CurrentBatch, reason: str, now: float) -> None:
        if self.rules.wrong_again is None:
            self._stop(reason, now)
            return self._drop(batch)
        if now - batch.since > self.rules.wrong_for:
            return self._drop(batch)
        return self._again([replace(batch, attempt=batch.attempt + 1)], now + self.rng.uniform(*self.rules.wrong_again))

    def _stop(self, reason: str, now: float) -> None:
        if not self.stopped:
            self.stopped, self._stopped_at = reason, now
