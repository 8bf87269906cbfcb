"""Until when the call of a plugin that is under way counts: what it does later is of no use."""

import time
from contextvars import ContextVar
from math import inf
from typing import Final

DEADLINE: Final[ContextVar[float]] = ContextVar("end of the call under way, in monotonic seconds", default=inf)


def time_left() -> float:
    """Return the seconds until the running call counts as failed; infinite outside of a call."""
    return max(0.0, DEADLINE.get() - time.monotonic())
