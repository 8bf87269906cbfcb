"""A clock that may run faster than the real clock, and can be put forward."""

import asyncio
import math
import time
from contextlib import suppress


class SandboxClock:
    """A clock in Unix seconds that runs `speed` times as fast as the real clock."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed, self._start, self._real = speed, time.time(), time.monotonic()
        self._bell = asyncio.Event()

    def __call__(self) -> float:
        """Return the time in Unix seconds."""
        return self._start + (time.monotonic() - self._real) * self._speed

    def forward(self, seconds: float) -> None:
        """Put the clock forward by seconds. Tasks that were due meanwhile run now."""
        self._start += seconds
        self.ring()

    def ring(self) -> None:
        """Wake all dozing tasks."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def doze(self, until: float = math.inf) -> None:
        """Wait until a time of this clock, or until the next `ring`."""
        left = (until - self()) / self._speed
        with suppress(TimeoutError):
            async with asyncio.timeout(None if left == math.inf else max(0.0, left)):
                await self._bell.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait for seconds of this clock."""
        until = self() + seconds
        while self() < until:
            await self.doze(until)
