"""Limits the events per second of a source."""

import math
import time
from collections.abc import Callable

from relay.ingest.problem import Problem


class SourceRateLimit:
    """A token bucket that holds one second's events, and at least one event.

    A request of any size passes while the bucket holds anything, and may leave a debt. So small requests never shut out
    a large one. Over any time at most the rate, one second's events and one request pass.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._full = self._left = max(rate, 1.0)
        self._at = clock()
        self.refused = 0
        """Requests refused since the start."""

    def take(self, events: int) -> None:
        """Count the events of a request. Raises Problem (429) over the limit; without events it passes."""
        now = self._clock()
        self._left = min(self._full, self._left + (now - self._at) * self._rate)
        self._at = now
        if events and self._left <= 0:
            self.refused += 1
            wait = math.floor(-self._left / self._rate) + 1
            raise Problem(429, f"more than {self._rate:g} events per second (the source's rate)", Retry_After=str(wait))
        self._left -= events
