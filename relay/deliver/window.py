"""How far a lane may go beyond its saved cursor: what is sent again after a crash."""

import asyncio
from collections.abc import Callable


class Window:
    """Counts the events of a lane that would be sent again after a crash, and waits where there would be too many."""

    def __init__(self, size: int, save_soon: Callable[[], None]) -> None:
        self._size, self.save_soon = size, save_soon
        self._exposed = 0
        """Events sent, or on their way, that would be sent again."""
        self.unsaved = 0
        """Those of them that are settled and only wait for the cursor to be saved."""
        self._moved = asyncio.Event()

    def beside(self) -> "Window":
        """Another one of the same size, for a lane with a cursor of its own."""
        return Window(self._size, self.save_soon)

    async def admit(self, events: int) -> None:
        """Wait until so many more may be sent."""
        while self._exposed and self._exposed + events > self._size:
            if self.unsaved:
                self.save_soon()
            await self.moved()
        self._exposed += events

    def settled(self, events: int) -> None:
        """So many of those that were admitted have their outcome."""
        self.unsaved += events
        self._moved.set()

    def saved(self, events: int) -> None:
        """The cursor that counts so many settled ones is on disk."""
        self.unsaved -= events
        self._exposed -= events
        self._moved.set()

    async def moved(self) -> None:
        """Wait until something is settled or saved."""
        self._moved.clear()
        await self._moved.wait()

    def begin(self) -> None:
        """Nothing is on its way: forget what was cut short."""
        self._exposed = self.unsaved
