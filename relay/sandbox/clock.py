"""A clock that may go faster than the real one."""

import time


class Clock:
    """Unix seconds, from now on `speed` times as fast."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed, self._start, self._real = speed, time.time(), time.monotonic()

    def __call__(self) -> float:
        """What time it is."""
        return self._start + (time.monotonic() - self._real) * self._speed

    def real(self, seconds: float) -> float:
        """How many real seconds so many of this clock's are."""
        return seconds / self._speed
