"""Heap's limits on events in any minute: per app, and per identity. Pure arithmetic over a given clock.

An event counts from the moment of sending until a minute after the answer: Heap counted it somewhere in between.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Final

APP_EVENTS: Final = 15_000
IDENTITY_EVENTS: Final = 1_000
MINUTE_S: Final = 60.0
UNANSWERED_S: Final = 1.0
"""Delay while the request in the way has no answer yet."""


@dataclass(slots=True)
class Reservation:
    """The events of one request."""

    counts: Counter[str]
    """Number of events by identity."""
    until: float = inf
    """Time at which the events stop to count; infinite without an answer."""


class HeapLimits:
    """Counts the events of the last minute: at most `app` events, and at most `identity` events of an identity."""

    def __init__(self, app: int = APP_EVENTS, identity: int = IDENTITY_EVENTS) -> None:
        self._app, self._identity = app, identity
        self._reservations: deque[Reservation] = deque()
        self._counts: Counter[str] = Counter()
        self._total = 0

    def reserve(self, identities: Sequence[str], now: float) -> tuple[Reservation, list[int]]:
        """Reserve an event of each identity, as far as the limits allow. Return the numbers of the allowed events."""
        while self._reservations and self._reservations[0].until <= now:
            expired = self._reservations.popleft().counts
            self._total -= expired.total()
            for identity, count in expired.items():
                self._counts[identity] -= count
                if not self._counts[identity]:
                    del self._counts[identity]
        counts, numbers = Counter(identities), [*range(len(identities))]
        is_over = any(self._counts.get(one, 0) + count > self._identity for one, count in counts.items())
        if is_over or self._total + counts.total() > self._app:
            counts, numbers = Counter[str](), list[int]()
            for number, identity in enumerate(identities):
                is_room = self._total + len(numbers) < self._app
                if is_room and self._counts[identity] + counts[identity] < self._identity:
                    counts[identity] += 1
                    numbers.append(number)
        reservation = Reservation(counts)
        if numbers:
            self._reservations.append(reservation)
            self._total += len(numbers)
            self._counts.update(counts)
        return reservation, numbers

    def finish(self, reservation: Reservation, now: float) -> None:
        """Stop to count the events in a minute: their request has ended, with an answer or without."""
        reservation.until = now + MINUTE_S

    def estimate_delay(self, identity: str, now: float) -> float:
        """Estimate the seconds until another event of an identity may go."""
        spent = self._counts[identity] >= self._identity
        first = next((each for each in self._reservations if not spent or identity in each.counts), None)
        return UNANSWERED_S if first is None or first.until == inf else max(first.until - now, 0.0)


@cache
def share_limits(host: str, app_id: str) -> HeapLimits:
    """Return the limits of an app. All connectors of this process to the app share them."""
    return HeapLimits()
