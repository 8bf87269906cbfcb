"""A clock that may go faster than the real one, and may be put forward."""

import asyncio
import math
import time
from contextlib import suppress


class SandboxClock:
    """Unix seconds, from now on `speed` times as fast."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed, self._start, self._real = speed, time.time(), time.monotonic()
        self._bell = asyncio.Event()

    def __call__(self) -> float:
        """What time it is."""
        return self._start + (time.monotonic() - self._real) * self._speed

    def forward(self, seconds: float) -> None:
        """Put it forward by so many of its seconds; what was due meanwhile happens now."""
        self._start += seconds
        self.ring()

    def ring(self) -> None:
        """Wake everybody who dozes."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def doze(self, until: float = math.inf) -> None:
        """Wait until then, or until somebody rings."""
        left = (until - self()) / self._speed
        with suppress(TimeoutError):
            async with asyncio.timeout(None if left == math.inf else max(0.0, left)):
                await self._bell.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait so many of its seconds."""
        until = self() + seconds
        while self() < until:
            await self.doze(until)
