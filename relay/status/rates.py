"""Measures how fast counters change, from their values of the last minute. Pure."""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

EVERY_S: Final = 1.0
KEPT: Final = 61
NOW_S: Final = 10.0
"""Seconds over which a current rate is measured."""
STEADY: Final = 2.0
"""A counter is steady if one half of a minute is at most so many times faster than the other."""


class Rates:
    """The values of many counters."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, Mapping[Hashable, float]]] = deque(maxlen=KEPT)

    def note(self, now: float, values: Mapping[Hashable, float]) -> None:
        """Note the values of counters at a time of a monotonic clock, in seconds."""
        self._noted.append((now, values))

    def measure_change(self, name: Hashable, seconds: float = KEPT) -> float:
        """Return the recent change of a counter per second; 0 until two values are known."""
        known = [(moment, values[name]) for moment, values in self._noted if name in values]
        if len(known) < 2:
            return 0.0
        last, value = known[-1]
        first, before = next(one for one in known if one[0] >= last - seconds)
        return (value - before) / (last - first) if last > first else 0.0

    def measure_steady_change(self, name: Hashable) -> float | None:
        """Return the change of a counter per second in the last minute; None without a basis for a forecast.

        That needs a whole minute, and halves that differ by STEADY at most.
        """
        known = [(moment, values[name]) for moment, values in self._noted if name in values]
        if len(known) < KEPT:
            return None
        (first, before), (half, between), (last, value) = known[0], known[KEPT // 2], known[-1]
        early, late = (between - before) / (half - first), (value - between) / (last - half)
        if early <= 0 or late <= 0 or max(early, late) > STEADY * min(early, late):
            return None
        return (value - before) / (last - first)


def predict_time(amount: float, speed: float) -> float | None:
    """Return the seconds for an amount at this speed; None: never."""
    if amount <= 0:
        return 0.0
    return amount / speed if speed > 0 else None
