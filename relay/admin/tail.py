"""A live tap of events: what passes a point of the flow is copied for somebody who watches, or dropped.

The flow hands its blocks over and never waits: a tap holds at most HELD_BYTES, and what comes while it is full is only
counted. What is held is handed on in portions with a pause after each, so that writing them out as JSON takes little of
the loop, however many events pass.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import orjson

from relay.api import Block
from relay.catalogue import Selection
from relay.inspect import line
from relay.route import Route

HELD_BYTES: Final = 1 << 20
EVENT_BYTES: Final = 64
"""What an event takes beside its bytes."""
PORTION: Final = 250
"""Events that are written out at a time, or twice as many."""
PAUSE_S: Final = 0.05


Taps = set[Callable[[Block], object]]
"""Who is called with the blocks that pass a point of the flow."""


class Tap:
    """Call it with the blocks that pass."""

    def __init__(self, selection: Selection) -> None:
        self._route = Route(selection)
        self._held: deque[Block] = deque()
        self._size = 0
        self._dropped = 0
        self._news = asyncio.Event()

    def __call__(self, block: Block) -> None:
        """Keep what is selected of a block, if there is room."""
        wanted = self._route(block).wanted
        if wanted is None:
            return
        room = max(0, HELD_BYTES - self._size)
        fit = min(bisect_right(wanted.ends, room), room // EVENT_BYTES)
        self._dropped += len(wanted) - fit
        for start in range(0, fit, PORTION):
            self._held.append(wanted.slice(start, min(start + PORTION, fit)))
            self._size += _size(self._held[-1])
        self._news.set()

    async def portions(self) -> AsyncIterator[bytes]:
        """What passes, for ever."""
        while True:
            yield await self.take()
            await asyncio.sleep(PAUSE_S)

    async def take(self) -> bytes:
        """What has passed since the last time, as NDJSON; waits for something. A line `{"dropped": N}` stands for
        events that there was no room for."""
        await self._news.wait()
        lines: list[bytes] = []
        while self._held and len(lines) < PORTION:
            block = self._held.popleft()
            self._size -= _size(block)
            lines += map(line, block.events())
        if not self._held:
            self._news.clear()
            if self._dropped:
                lines.append(orjson.dumps({"dropped": self._dropped}) + b"\n")
                self._dropped = 0
        return b"".join(lines)


def _size(block: Block) -> int:
    return len(block.body) + EVENT_BYTES * len(block)
