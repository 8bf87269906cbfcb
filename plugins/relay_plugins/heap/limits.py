"""Heap's limits on events: so many in any minute per app, and so many per identity. Pure arithmetic over a given clock.

What was sent counts from the moment of sending until a minute after its answer: somewhere in between Heap counted it.
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
"""When to look again if what is in the way has no answer yet."""


@dataclass(slots=True)
class Booking:
    """The events of one request, by identity."""

    counts: Counter[str]
    until: float = inf
    """When they no longer count; known once there is an answer."""


class HeapLimits:
    """Who was sent how much of late. Remembers one minute: `app` events at most."""

    def __init__(self, app: int = APP_EVENTS, identity: int = IDENTITY_EVENTS) -> None:
        self._app, self._identity = app, identity
        self._bookings: deque[Booking] = deque()
        self._counts: Counter[str] = Counter()
        self._total = 0

    def book(self, identities: Sequence[str], now: float) -> tuple[Booking, list[int]]:
        """Book an event of each identity, as far as they may go now; return the numbers of those that may."""
        while self._bookings and self._bookings[0].until <= now:
            gone = self._bookings.popleft().counts
            self._total -= gone.total()
            for identity, count in gone.items():
                self._counts[identity] -= count
                if not self._counts[identity]:
                    del self._counts[identity]
        counts, numbers = Counter(identities), [*range(len(identities))]
        is_over = any(self._counts.get(one, 0) + count > self._identity for one, count in counts.items())
        if is_over or self._total + counts.total() > self._app:
            counts, numbers = self._fitting(identities)
        booking = Booking(counts)
        if numbers:
            self._bookings.append(booking)
            self._total += len(numbers)
            self._counts.update(counts)
        return booking, numbers

    def _fitting(self, identities: Sequence[str]) -> tuple[Counter[str], list[int]]:
        """As much of it as may go, and its numbers."""
        counts, numbers = Counter[str](), list[int]()
        for number, identity in enumerate(identities):
            if self._total + len(numbers) < self._app and self._counts[identity] + counts[identity] < self._identity:
                counts[identity] += 1
                numbers.append(number)
        return counts, numbers

    def answered(self, booking: Booking, now: float) -> None:
        """The request has an answer, or will have none."""
        booking.until = now + MINUTE_S

    def delay(self, identity: str, now: float) -> float:
        """Seconds after which one more event of that identity may go; at least a guess."""
        spent = self._counts[identity] >= self._identity
        first = next((each for each in self._bookings if not spent or identity in each.counts), None)
        return UNANSWERED_S if first is None or first.until == inf else max(first.until - now, 0.0)


@cache
def shared(host: str, app_id: str) -> HeapLimits:
    """The one account of an app in this process: connectors to the same app share it."""
    return HeapLimits()
