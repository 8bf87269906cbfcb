"""How far a lane may go beyond its saved cursor: what is sent again after a crash, and what it has in memory."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from relay.api import Batch, Event

EVENT_BYTES: Final = 512
"""What an event takes in memory beside its bytes, while it is on its way or waits: objects, and its places in lists."""


class Window:
    """Counts the events of a lane that would be sent again after a crash, and the bytes of those without an outcome;
    waits where there would be too many."""

    def __init__(self, size: int, memory: int, save_soon: Callable[[], None]) -> None:
        self._size, self._memory, self.save_soon = size, memory, save_soon
        self._exposed = 0
        """Events sent, or on their way, that would be sent again."""
        self._held = 0
        """Bytes of those that have no outcome yet."""
        self.unsaved = 0
        """Those of them that are settled and only wait for the cursor to be saved."""
        self._moved = asyncio.Event()

    def beside(self) -> "Window":
        """Another one of the same size, for a lane with a cursor of its own."""
        return Window(self._size, self._memory, self.save_soon)

    async def admit(self, events: int, size: int) -> None:
        """Wait until so many more may be sent, which take `size` bytes in memory."""
        while self._is_full(events) or (self._held and self._held + size > self._memory):
            if self._is_full(events) and self.unsaved:
                self.save_soon()
            await self.moved()
        self._exposed += events
        self._held += size

    def _is_full(self, events: int) -> bool:
        return bool(self._exposed) and self._exposed + events > self._size

    def settled(self, events: int, size: int) -> None:
        """So many of those that were admitted have their outcome, and take no memory any more."""
        self.unsaved += events
        self._held -= size
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
        self._exposed, self._held = self.unsaved, 0


def size_of(events: Sequence[Event]) -> int:
    """Bytes that events take in memory."""
    if isinstance(events, Batch):
        return sum(len(block.body) + 1 for block in events.blocks) + (EVENT_BYTES - 1) * len(events)
    return sum(len(event.body) for event in events) + EVENT_BYTES * len(events)
