"""The time by which something is removed for good: that of the machine, unless it has jumped ahead.

A machine's clock may be a year ahead for a minute (a restored VM, a battery that is dead until NTP answers, a bad NTP
server). What goes by age would then be gone for good. So the machine's time is compared with the newest time that was
known at the start plus the uptime since then. If it is more than a day ahead of that, nothing grows older than the
uptime says, until the clock is right again or an admin has accepted it (`relay accept clock`).
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


def uptime() -> float:
    """Seconds since the machine was started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The machine's clock, checked against the uptime. Times are Unix seconds. Threads may share it."""

    def __init__(
        self,
        newest: float | None = None,
        wall: Callable[[], float] | None = None,
        up: Callable[[], float] | None = None,
    ) -> None:
        """`newest`: the newest time that is known, of events or in the database; None: none is.

        Where that is longer ago than a day, but the machine was up all the while, relay was only stopped."""
        self._wall, self._up = wall or time.time, up or uptime
        now, running = self._wall(), self._up()
        is_credible = newest is None or now - newest <= max(DAY_S, running)
        self._start = (now if newest is None or is_credible else newest) - running
        """What the clock showed when the machine was started, as far as that is trusted."""
        if newest is not None:
            self._start = max(self._start, newest - running)
        self._told = False
        self._accepted = 0.0
        self.ahead = 0.0
        """Seconds by which the clock is ahead of what can be right; 0 if it is not."""
        self.now()

    def now(self, age: float = 0.0) -> float:
        """The time by which something is removed at this age: that of the clock, or, while that is ahead, the latest
        that can be right. -inf as long as an admin has accepted the clock less than `age` seconds ago: nobody knows how
        old that is what was stamped before, and so it ages from then on."""
        now = self._trusted()
        return now if not age or self._accepted + age <= now else -math.inf

    def _trusted(self) -> float:
        wall, up = self._wall(), self._up()
        latest = self._start + up
        if wall > latest + DAY_S:
            self.ahead = wall - latest
            self._tell_ahead(wall, latest)
            return latest
        if self._told:
            log.info("the clock is right again", clock=_written(wall))
        self.ahead, self._told = 0.0, False
        self._start = max(self._start, wall - up)
        return wall

    def steady(self) -> float:
        """The latest time that can be right: it goes on as the uptime does, whatever the machine's clock shows."""
        self.now()
        return self._start + self._up()

    def accept(self, newest: float, accepted: float = 0.0) -> None:
        """It was so late a moment ago; an admin has said at `accepted` that the clock is right."""
        self._accepted = accepted
        self._start = max(self._start, newest - self._up())

    def _tell_ahead(self, wall: float, latest: float) -> None:
        if not self._told:
            self._told = True
            log.error("the clock is ahead", clock=_written(wall), expected=_written(latest), advice=ADVICE)


def _written(moment: float) -> str:
    try:
        return words.moment(moment)
    except (ValueError, OverflowError, OSError):
        return f"{moment:.0f} (Unix seconds)"
