"""The window of a lane: how far the lane may go beyond its saved cursor, and how much memory it may take."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from relay.api import Batch, Event

EVENT_BYTES: Final = 512
"""Memory of an event beside its bytes: objects, and its places in lists."""


class Window:
    """Counts the events of a lane that a crash would send again, and the bytes of events without an outcome. Waits
    where a count would exceed its limit."""

    def __init__(self, size: int, memory: int, save_soon: Callable[[], None]) -> None:
        self._size, self._memory, self.save_soon = size, memory, save_soon
        self._exposed = 0
        """Events sent or under way that a crash would send again."""
        self._held = 0
        """Bytes of events without an outcome."""
        self.unsaved = 0
        """Events that have an outcome and wait for the next checkpoint."""
        self._changed = asyncio.Event()

    def make_another(self) -> "Window":
        """Return an empty window of the same size, for a lane with a cursor of its own."""
        return Window(self._size, self._memory, self.save_soon)

    async def admit(self, events: int, size: int) -> None:
        """Wait until so many more events may be sent, which take `size` bytes in memory."""
        while self._is_full(events) or (self._held and self._held + size > self._memory):
            if self._is_full(events) and self.unsaved:
                self.save_soon()
            await self.wait_for_change()
        self._exposed += events
        self._held += size

    def _is_full(self, events: int) -> bool:
        return bool(self._exposed) and self._exposed + events > self._size

    def settle(self, events: int, size: int) -> None:
        """Count events that have their outcome, and free their `size` bytes."""
        self.unsaved += events
        self._held -= size
        self._changed.set()

    def mark_saved(self, events: int) -> None:
        """Count settled events whose cursor is on disk."""
        self.unsaved -= events
        self._exposed -= events
        self._changed.set()

    async def wait_for_change(self) -> None:
        """Wait until an event is settled or saved."""
        self._changed.clear()
        await self._changed.wait()

    def reset(self) -> None:
        """Forget what was cut short: nothing is under way."""
        self._exposed, self._held = self.unsaved, 0


def measure_memory(events: Sequence[Event]) -> int:
    """Return the bytes that events take in memory."""
    if isinstance(events, Batch):
        return sum(len(block.body) + 1 for block in events.blocks) + (EVENT_BYTES - 1) * len(events)
    return sum(len(event.body) for event in events) + EVENT_BYTES * len(events)
