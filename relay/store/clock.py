"""The time by which data expires: the machine's clock, unless the clock has jumped ahead.

A machine's clock may be a year ahead for a minute: a restored VM, a dead battery before NTP answers, a bad NTP server.
Everything that expires by age would be lost then. So the clock is compared with the newest time known at the start plus
the uptime since then. While the clock is more than a day ahead of that, nothing ages faster than the uptime. This ends
when the clock is right again, or when an admin has accepted it (`relay accept clock`).
"""

import math
import time
from collections.abc import Callable
from typing import Final

import structlog

from relay import words

DAY_S: Final = 86400.0
ADVICE: Final = "nothing is removed for its age meanwhile; set the clock right, or, if it is: relay accept clock"
log = structlog.stdlib.get_logger()


def read_uptime() -> float:
    """Return the seconds since the machine was started, including suspended time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The machine's clock, checked against the uptime. Times are Unix seconds. Threads may share it."""

    def __init__(
        self,
        newest: float | None = None,
        wall: Callable[[], float] | None = None,
        up: Callable[[], float] | None = None,
    ) -> None:
        """`newest`: the newest known time, of events or in the database; None without any.

        A newest time of more than a day ago is no fault if the machine was up all the while: relay was stopped.
        """
        self._wall, self._up = wall or time.time, up or read_uptime
        now, running = self._wall(), self._up()
        is_credible = newest is None or now - newest <= max(DAY_S, running)
        self._start = (now if newest is None or is_credible else newest) - running
        """The trusted time at the machine's start."""
        if newest is not None:
            self._start = max(self._start, newest - running)
        self._told = False
        self._accepted = 0.0
        self.ahead = 0.0
        """Seconds by which the clock is ahead of what can be right; 0: the clock is right."""
        self.now()

    def now(self, age: float = 0.0) -> float:
        """Return the time by which data of this age expires: the clock, or the latest time that can be right.

        Return -inf until the clock was accepted `age` seconds ago: what was stamped before ages from then on.
        """
        wall, up = self._wall(), self._up()
        latest = self._start + up
        if wall > latest + DAY_S:
            self.ahead = wall - latest
            if not self._told:
                self._told = True
                log.error("the clock is ahead", clock=_format_time(wall), expected=_format_time(latest), advice=ADVICE)
            now = latest
        else:
            if self._told:
                log.info("the clock is right again", clock=_format_time(wall))
            self.ahead, self._told = 0.0, False
            self._start = max(self._start, wall - up)
            now = wall
        return now if not age or self._accepted + age <= now else -math.inf

    def read_steady(self) -> float:
        """Return the latest time that can be right. It advances with the uptime, whatever the clock shows."""
        self.now()
        return self._start + self._up()

    def accept(self, newest: float, accepted: float = 0.0) -> None:
        """Take over a newest known time, and the time at which an admin accepted the clock."""
        self._accepted = accepted
        self._start = max(self._start, newest - self._up())


def _format_time(moment: float) -> str:
    try:
        return words.format_time(moment)
    except (ValueError, OverflowError, OSError):
        return f"{moment:.0f} (Unix seconds)"
