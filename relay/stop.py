"""The deadlines of a stop: the first signal sets them, and each step of the stop keeps to its deadline.

Failure and recovery: a plugin, a thread or a disk may hang in spite of the deadlines. Then a thread of its own ends the
process. Acknowledged events are on disk. Events delivered since the last save of the cursors are delivered again.
"""

import logging
import os
import time
from collections.abc import Callable
from math import inf
from queue import SimpleQueue
from threading import Thread
from typing import Final

LEAST_S: Final = 1.0
"""Seconds that a stop may take, however small the drain budget is."""
RESERVE_S: Final = 2.0
"""Seconds of the drain budget, and at most half of the budget, are kept for the steps after the deliveries."""
OWN_S: Final = 0.5
"""Seconds, and at most a fourth of the stop, are kept for relay's own work after connectors are closed or workers
have ended."""


class Stop:
    """The moments of a stop in their order, in monotonic seconds; they are infinite until it begins."""

    def __init__(self) -> None:
        self.drain = 0.0
        """Seconds that the stop may take, by the configuration in force."""
        self._is_supervised = False
        self.cut = inf
        """Relay cuts deliveries under way short."""
        self.heeded = inf
        """Work that was cut short has ended, or is left behind."""
        self.closed = inf
        """Connectors and filters are closed, workers have ended."""
        self.kept = inf
        """Listeners, journal and database are closed."""
        self.over = inf
        """The process ends, whatever still runs."""
        self._begun = SimpleQueue[None]()

    @property
    def has_begun(self) -> bool:
        """Whether this process stops."""
        return self.cut < inf

    def begin(self) -> None:
        """Set the moments, unless they are set. A signal handler may call this: it takes no lock."""
        if self.has_begun:
            return
        now = time.monotonic()
        found = [now + after for after in plan_moments(self.drain, supervised=self._is_supervised)]
        self.cut, self.heeded, self.closed, self.kept, self.over = found
        self._begun.put(None)

    def watch(self, drain: float, *, supervised: bool = False, leave: Callable[[int], object] = os._exit) -> None:
        """Start the thread that ends the process with exit code 0 when a stop takes too long.

        `drain`: seconds that a stop may take. `supervised`: another process stops at the same time, and waits for this
        process.
        """
        self.drain, self._is_supervised = drain, supervised
        Thread(target=self._watch, args=(leave,), name="stop", daemon=True).start()

    def _watch(self, leave: Callable[[int], object]) -> None:
        self._begun.get()
        time.sleep(count_seconds_left(self.over))
        advice = "what was acknowledged is on disk; find out what hangs: a plugin that blocks, a thread, or a disk"
        import structlog  # late: `relay check` does without it

        log = structlog.stdlib.get_logger()
        log.error("relay does not stop in time, ends as it is", drain_s=self.drain, advice=advice)
        logging.shutdown()  # writes what waits
        leave(0)


def plan_moments(drain: float, *, supervised: bool) -> tuple[float, float, float, float, float]:
    """Return the moments of a stop that may take `drain` seconds, in seconds from its beginning."""
    cut, end = max(drain - RESERVE_S, drain / 2), max(drain, LEAST_S)
    if supervised:
        end -= _find_own_share(end)
    own = _find_own_share(end)
    closed = end - own
    return cut, (cut + closed) / 2, closed, end - own * 0.4, end - own * 0.1


def _find_own_share(whole: float) -> float:
    """Return the seconds of a stop of `whole` seconds that are kept for relay's own work."""
    return min(OWN_S, whole / 4)


STOP: Final = Stop()
"""The stop of this process."""


def count_seconds_left(moment: float, most: float = inf) -> float:
    """Return the seconds until a moment: at least 0, at most `most`."""
    return min(most, max(0.0, moment - time.monotonic()))
