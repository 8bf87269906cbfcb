"""How fast counters change: their values of the last minute, noted once a second. Pure."""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

EVERY_S: Final = 1.0
KEPT: Final = 61
NOW_S: Final = 10.0
"""Over so many seconds a rate is one of now."""


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


def time_to(amount: float, speed: float) -> float | None:
    """Seconds in which so much is done at this speed; None: never."""
    if amount <= 0:
        return 0.0
    return amount / speed if speed > 0 else None
