"""How fast a lane may go. Pure arithmetic over a clock that the caller reads."""

from relay.api import BatchSettings


def paced(limits: BatchSettings, *rates: float) -> BatchSettings:
    """Batches of no more events than may go in a second."""
    most = min([limits.events, *(max(1, int(rate)) for rate in rates if rate)])
    return limits.model_copy(update={"events": most})


class Pace:
    """At most `rate` events per second on average, with a burst of one second; rate 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._due = 0.0

    def delay(self, events: int, now: float) -> float:
        """Book so many events, or give back a booking (negative); return the seconds to wait before they may go."""
        if not self.rate:
            return 0.0
        self._due = max(self._due, now - 1.0)
        wait = self._due - now
        self._due += events / self.rate
        return max(0.0, wait)
