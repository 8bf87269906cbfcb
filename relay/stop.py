"""When this process has to have stopped: moments that the first signal sets, and that each step of the stop keeps to.

How it fails and recovers: what hangs in spite of all that (a plugin that blocks the event loop, a thread, a disk) is
left where it is. A thread that waits for nothing else ends the process. What was acknowledged is on disk, and what was
delivered since the cursors were saved is delivered again.
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
"""What a stop may take, however small the drain budget is."""
RESERVE_S: Final = 2.0
"""Of the drain budget at most half, and so much at most, is kept for what comes after the deliveries."""
OWN_S: Final = 0.5
"""Of the whole a fourth at most, and so much at most, is kept for relay's own work after connectors are closed or
workers have ended."""


class Stop:
    """The moments of a stop in their order, in monotonic seconds; they are infinite until it begins."""

    def __init__(self) -> None:
        self.drain = 0.0
        """What it may take, in seconds, by the configuration in force."""
        self._is_supervised = False
        self.cut = inf
        """Deliveries under way are cut short."""
        self.heeded = inf
        """Work that was cut short has ended, or is left behind."""
        self.closed = inf
        """Connectors and filters are closed, workers have ended."""
        self.kept = inf
        """Listeners, journal and database are closed."""
        self.over = inf
        """The process ends, whatever goes on."""
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
        found = [now + after for after in moments(self.drain, supervised=self._is_supervised)]
        self.cut, self.heeded, self.closed, self.kept, self.over = found
        self._begun.put(None)

    def watch(self, drain: float, *, supervised: bool = False, leave: Callable[[int], object] = os._exit) -> None:
        """From now on have the process end in time, with exit code 0, from the moment that a stop begins. `drain`: what
        that may take, in seconds; `supervised`: another process stops at the same time, and waits for this one."""
        self.drain, self._is_supervised = drain, supervised
        Thread(target=self._watch, args=(leave,), name="stop", daemon=True).start()

    def _watch(self, leave: Callable[[int], object]) -> None:
        self._begun.get()
        time.sleep(left(self.over))
        advice = "what was acknowledged is on disk; find out what hangs: a plugin that blocks, a thread, or a disk"
        import structlog  # late: `relay check` does without it

        log = structlog.stdlib.get_logger()
        log.error("relay does not stop in time, ends as it is", drain_s=self.drain, advice=advice)
        logging.shutdown()  # writes what waits
        leave(0)


def moments(drain: float, *, supervised: bool) -> tuple[float, float, float, float, float]:
    """The moments of a stop that may take so long, in seconds from its begin."""
    cut, end = max(drain - RESERVE_S, drain / 2), max(drain, LEAST_S)
    if supervised:
        end -= _own(end)
    own = _own(end)
    closed = end - own
    return cut, (cut + closed) / 2, closed, end - own * 0.4, end - own * 0.1


def _own(whole: float) -> float:
    """What of a stop is relay's own."""
    return min(OWN_S, whole / 4)


STOP: Final = Stop()
"""That of this process."""


def left(moment: float, most: float = inf) -> float:
    """The seconds until then, `most` at most."""
    return min(most, max(0.0, moment - time.monotonic()))
