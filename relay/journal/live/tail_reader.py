"""Reads a log on from an offset: from memory if possible, else from where the engine stores events."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from relay.api import Block
from relay.journal.live.subscribers import Subscribers
from relay.journal.live.tail import Tail
from relay.store import Erased, Wants

READ_BYTES: Final = 1 << 20
"""Bytes of a read, about."""


class TailReader(ABC):
    """A position of its own in a log. Engines add how stored events are read."""

    def __init__(self, head: Callable[[], int], tail: Tail, waiting: Subscribers, wants: Wants) -> None:
        self._head, self._tail = head, tail
        self._waiting, self._waiter = waiting, waiting.join(wants)
        self._reads_storage = False
        """Whether the last read was from storage."""
        self.offset = head()
        """The offset of the next read."""

    async def skip(self, offset: int) -> int:
        """Wait for an event at this offset; return the offset of the first event that may be wanted.

        Without such an event return the log's head.
        """
        if self._head() <= offset:
            self.offset = offset = max(offset, await self._waiter.wait())
        return offset

    async def read(self, offset: int) -> list[Block]:
        """Wait for events at this offset; return the next blocks, about a MiB. Raises Unavailable.

        Removed and unreadable events are skipped: a block may start later than the last one ended. If nothing up to the
        head is readable, no block is returned, and `offset` is the head.
        """
        blocks: list[Block] = []
        while self._head() <= offset:
            await self._waiter.wait()
        while not blocks and offset < self._head():
            blocks = self._tail.read(offset, READ_BYTES)
            if not blocks:
                self._reads_storage = True
                blocks, offset = await self._read_stored(offset)
            elif self._reads_storage:
                self._reads_storage = False
                await self._release()
        self.offset = blocks[-1].offsets[-1] + 1 if blocks else offset
        withheld = self._tail.withheld
        return blocks if withheld is None else [Erased(block, withheld).block for block in blocks]

    @abstractmethod
    async def _read_stored(self, offset: int) -> tuple[list[Block], int]:
        """Read stored events; return blocks, and the offset to go on with. Raises Unavailable."""

    @abstractmethod
    async def _release(self) -> None:
        """Let go of what the reads from storage keep open, as memory holds the next events."""

    def close(self) -> None:
        """Leave the log. Never blocks."""
        self._waiting.leave(self._waiter)
