"""Rate limits. Pure arithmetic: the caller reads the clock."""

from relay.api import BatchSettings


def limit_batches(limits: BatchSettings, *rates: float) -> BatchSettings:
    """Return limits with batches of no more events than may go in a second."""
    most = min([limits.events, *(max(1, int(rate)) for rate in rates if rate)])
    return limits.model_copy(update={"events": most})


class RateLimit:
    """Limits events to `rate` a second on average, with a burst of one second. Rate 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._due = 0.0
        self.given_back = 0.0
        """Seconds by which cancelled bookings have shortened the waits of later bookings so far."""

    def use_up(self, now: float) -> None:
        """Let nothing go before a batch that has just gone elsewhere is paid for. See `limit_batches` for its size."""
        if self.rate:
            self._due = now + max(1.0, 1.0 / self.rate)

    def book(self, events: int, now: float) -> float:
        """Book so many events. Return the seconds to wait before the events may go."""
        if not self.rate:
            return 0.0
        self._due = max(self._due, now - 1.0)
        wait = self._due - now
        self._due += events / self.rate
        return max(0.0, wait)

    def give_back(self, events: int) -> None:
        """Cancel the booking of so many events."""
        if self.rate:
            self._due -= events / self.rate
            self.given_back += events / self.rate
