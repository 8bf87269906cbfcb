"""A live tap: copies the events that pass a point of the flow to a reader, or drops them.

The flow never waits: a tap holds HELD_BYTES at most, and further events are only counted. It passes on portions with a
pause after each, so that encoding them takes little of the event loop.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

import orjson

from relay.api import Block
from relay.catalogue import Selection
from relay.inspect import encode_line
from relay.route import Route

HELD_BYTES: Final = 1 << 20
EVENT_BYTES: Final = 64
"""Bytes of an event beside its body."""
PORTION: Final = 250
"""Events that are encoded at a time, or twice as many."""
PAUSE_S: Final = 0.05


class Tap:
    """Is called with the blocks that pass."""

    def __init__(self, selection: Selection) -> None:
        self._route = Route(selection)
        self._held: deque[Block] = deque()
        self._size = 0
        self._dropped = 0
        self._news = asyncio.Event()

    def __call__(self, block: Block) -> None:
        """Keep the selected events of a block, if there is room."""
        wanted = self._route(block).wanted
        if wanted is None:
            return
        room = max(0, HELD_BYTES - self._size)
        fit = min(bisect_right(wanted.ends, room), room // EVENT_BYTES)
        self._dropped += len(wanted) - fit
        for start in range(0, fit, PORTION):
            self._held.append(wanted.slice(start, min(start + PORTION, fit)))
            self._size += _measure(self._held[-1])
        self._news.set()

    async def take_portions(self) -> AsyncIterator[bytes]:
        """Yield the events that pass, for ever."""
        while True:
            yield await self.take()
            await asyncio.sleep(PAUSE_S)

    async def take(self) -> bytes:
        """Wait for events; return those since the last call as NDJSON.

        A line `{"dropped": N}` stands for events without room.
        """
        await self._news.wait()
        lines: list[bytes] = []
        while self._held and len(lines) < PORTION:
            block = self._held.popleft()
            self._size -= _measure(block)
            lines += map(encode_line, block.events())
        if not self._held:
            self._news.clear()
            if self._dropped:
                lines.append(orjson.dumps({"dropped": self._dropped}) + b"\n")
                self._dropped = 0
        return b"".join(lines)


def _measure(block: Block) -> int:
    return len(block.body) + EVENT_BYTES * len(block)
