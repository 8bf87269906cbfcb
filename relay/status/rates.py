"""How fast counters change: their values of the last minute, noted once a second. Pure."""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

EVERY_S: Final = 1.0
KEPT: Final = 61
NOW_S: Final = 10.0
"""Over so many seconds a rate is one of now."""
STEADY: Final = 2.0
"""A counter is steady if it goes at most so many times faster in one half of a minute than in the other."""


class Rates:
    """The values of many counters."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, Mapping[Hashable, float]]] = deque(maxlen=KEPT)

    def note(self, now: float, values: Mapping[Hashable, float]) -> None:
        """Keep what the counters say now, in seconds of a clock that only goes forward."""
        self._noted.append((now, values))

    def change(self, name: Hashable, seconds: float = KEPT) -> float:
        """How much a counter has changed per second, lately; 0 while it is not known twice."""
        known = [(moment, values[name]) for moment, values in self._noted if name in values]
        if len(known) < 2:
            return 0.0
        last, value = known[-1]
        first, before = next(one for one in known if one[0] >= last - seconds)
        return (value - before) / (last - first) if last > first else 0.0

    def steady_change(self, name: Hashable) -> float | None:
        """How much a counter has changed per second in the last minute; None while that says nothing of what comes: it
        is not known for a minute, or has gone much faster in one half of the minute than in the other."""
        known = [(moment, values[name]) for moment, values in self._noted if name in values]
        if len(known) < KEPT:
            return None
        (first, before), (half, between), (last, value) = known[0], known[KEPT // 2], known[-1]
        early, late = (between - before) / (half - first), (value - between) / (last - half)
        if early <= 0 or late <= 0 or max(early, late) > STEADY * min(early, late):
            return None
        return (value - before) / (last - first)


def time_to(amount: float, speed: float) -> float | None:
    """Seconds in which so much is done at this speed; None: never."""
    if amount <= 0:
        return 0.0
    return amount / speed if speed > 0 else None
