"""Retries and the breaker: when a lane tries again, and when it sends nothing. Pure: the caller reads the clock.

Closed: every attempt goes. Open: no attempt goes until a time. Half-open: the time is over, one attempt goes, and the
others wait for its result. Held: no attempt goes until an admin says so.

A bug of a connector shows nothing about the destination, so the breaker stays closed. Where the connector fails at
everything, its attempts go one by one, BUG_GAP_S apart: each takes time of the event loop, which other lanes need.
"""

import random
from typing import Final, Literal

from relay.store import Pause

MAX_RETRY_AFTER_S: Final = 3600.0
"""The longest Retry-After of a destination that relay honours, in seconds."""


def draw_retry_delay(
    attempt: int, *, first: float, longest: float, after: float | None, chance: random.Random
) -> float:
    """Return the seconds to wait after attempt number `attempt` (from 1) failed.

    Exponential backoff with full jitter: uniform in 0 .. min(longest, first * 2^(attempt-1)). The delay is never
    shorter than the Retry-After of the destination."""
    ceiling = min(longest, first * 2.0 ** min(attempt - 1, 60))
    return max(chance.uniform(0, ceiling), min(after or 0.0, MAX_RETRY_AFTER_S))


FAILURES: Final = 5
"""So many failed attempts in a row open the breaker."""
BUGS: Final = 20
"""After so many attempts in a row that failed by a bug, the connector counts as failing at everything."""
BUG_GAP_S: Final = 0.1
PROBE_WAIT_S: Final = 0.1
HELD_WAIT_S: Final = 0.25


class Breaker:
    """The breaker of one destination."""

    def __init__(self) -> None:
        self._failures = 0
        self._open = False
        self._until = 0.0
        self._probing = False
        self._bugs, self._next = 0, 0.0
        self.held: Pause | None = None
        """The pause by an admin; None without a pause."""

    def state(self, now: float) -> Literal["closed", "open", "half-open"]:
        """Return the state, apart from a pause."""
        if not self._open:
            return "closed"
        return "open" if now < self._until else "half-open"

    def seconds_left(self, now: float) -> float:
        """Return the seconds until an attempt may go; 0 if one may go now, apart from a pause."""
        return max(0.0, self._until - now) if self._open else 0.0

    def admit(self, now: float) -> float:
        """Return 0 if an attempt may go, else the seconds until the next question. The caller reports how an admitted
        attempt went."""
        if self.held is not None:
            return HELD_WAIT_S
        if self._open and now < self._until:
            return self._until - now
        if self._open and self._probing:
            return PROBE_WAIT_S
        if self._bugs >= BUGS:
            if now < self._next:
                return self._next - now
            self._next = now + BUG_GAP_S
        self._probing = self._open
        return 0.0

    def record_success(self) -> None:
        """Record an attempt whose answer settles events."""
        self._failures, self._bugs, self._open, self._probing = 0, 0, False, False

    def record_failure(self, until: float, *, at_once: bool) -> None:
        """Record an attempt that did not get through and is tried again at `until`. `at_once`: the destination asked
        for a pause."""
        self._failures += 1
        self._probing = False
        if at_once or self._failures >= FAILURES:
            self._open, self._until = True, max(self._until, until)

    def try_now(self) -> None:
        """Let one attempt go now, because an admin says that the destination works again. The others wait for its
        result."""
        self._until = self._next = 0.0

    def record_bug(self) -> None:
        """Record an attempt that failed by a bug of the connector."""
        self._bugs += 1
        self._probing = False

    def record_no_result(self) -> None:
        """Record an attempt that ended without a result. Another attempt may take its place."""
        self._probing = False
