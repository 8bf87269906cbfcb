"""When a lane tries again, and when it leaves its destination alone. Pure: the caller reads the clock.

Closed: every attempt goes. Open: none goes until a time. Half-open: that time is over, one attempt goes ahead, and the
others wait for its result. Held: none goes until an admin says so.

A bug of the connector says nothing of the destination, so the breaker stays closed. Where the connector fails at
everything, its attempts go one by one, BUG_GAP_S apart: each takes time of the event loop, which other lanes need.
"""

import random
from typing import Final, Literal

from relay.state import Pause

MAX_RETRY_AFTER_S: Final = 3600.0
"""A destination's Retry-After is honoured up to this many seconds."""


def retry_delay(attempt: int, *, first: float, longest: float, after: float | None, chance: random.Random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed.

    Exponential backoff with full jitter: uniform in 0 .. min(longest, first * 2^(attempt-1)); never earlier than the
    destination's own Retry-After.
    """
    ceiling = min(longest, first * 2.0 ** min(attempt - 1, 60))
    return max(chance.uniform(0, ceiling), min(after or 0.0, MAX_RETRY_AFTER_S))


FAILURES: Final = 5
"""Attempts that fail one after the other, with none between that gets through, open the breaker."""
BUGS: Final = 20
"""Attempts that fail by a bug one after the other, with none between that gets through: the connector fails at all."""
BUG_GAP_S: Final = 0.1
PROBE_WAIT_S: Final = 0.1
HELD_WAIT_S: Final = 0.25


class Breaker:
    """The breaker of one lane."""

    def __init__(self) -> None:
        self._failures = 0
        self._open = False
        self._until = 0.0
        self._probing = False
        self._bugs, self._next = 0, 0.0
        self.held: Pause | None = None
        """Its pause by an admin; None: there is none."""

    def state(self, now: float) -> Literal["closed", "open", "half-open"]:
        """What it is apart from being held."""
        if not self._open:
            return "closed"
        return "open" if now < self._until else "half-open"

    def left(self, now: float) -> float:
        """Seconds until an attempt may go ahead again; 0: it may, but for an admin."""
        return max(0.0, self._until - now) if self._open else 0.0

    def wait(self, now: float) -> float:
        """Seconds to wait before asking again; 0: go ahead. Whoever goes ahead says how it went."""
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

    def worked(self) -> None:
        """An attempt got an answer that settles events."""
        self._failures, self._bugs, self._open, self._probing = 0, 0, False, False

    def failed(self, until: float, *, at_once: bool) -> None:
        """An attempt did not get through and comes again at that time; `at_once`: the destination asked for peace."""
        self._failures += 1
        self._probing = False
        if at_once or self._failures >= FAILURES:
            self._open, self._until = True, max(self._until, until)

    def try_now(self) -> None:
        """The destination is mended, as an admin says: one attempt goes ahead, the others wait for what it finds."""
        self._until = self._next = 0.0

    def stumbled(self) -> None:
        """An attempt failed by a bug of the connector."""
        self._bugs += 1
        self._probing = False

    def given_up(self) -> None:
        """An attempt ended without a result; another may take its place."""
        self._probing = False
