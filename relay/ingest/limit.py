"""How many events a source takes per second."""

import math
import time
from collections.abc import Callable

from relay.ingest.problem import Problem


class Limit:
    """A token bucket that holds one second, and at least one event.

    A request of any size gets through while there is anything in it, and may leave it in debt: no large one is refused
    for ever, whatever the small ones do. Over any time that makes at most what the rate says, one second's more, and
    one request.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._full = self._left = max(rate, 1.0)
        self._at = clock()
        self.refused = 0
        """Requests that were told to come later, since the start."""

    def take(self, events: int) -> None:
        """Count the events of a request. Raises Problem (429) if they are to come later; none always pass."""
        now = self._clock()
        self._left = min(self._full, self._left + (now - self._at) * self._rate)
        self._at = now
        if events and self._left <= 0:
            self.refused += 1
            wait = math.floor(-self._left / self._rate) + 1
            raise Problem(429, f"more than {self._rate:g} events per second (the source's rate)", Retry_After=str(wait))
        self._left -= events
