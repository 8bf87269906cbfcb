"""The newest blocks in memory, so that lanes that keep up read no file. Limited in bytes, objects included."""

from bisect import bisect_right

from relay.api import Block
from relay.store import Wanted


class Tail:
    """Blocks without a gap. The oldest leave when all have read them, or beyond `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self.withheld: Wanted | None = None
        """The users whose events readers find erased."""
        self._bases: list[int] = []
        self._blocks: list[Block] = []

    @property
    def start(self) -> int | None:
        """The oldest offset in memory; None without any."""
        return self._bases[0] if self._bases else None

    def add(self, block: Block) -> None:
        """Add a block behind the newest one."""
        self._bases.append(block.offsets[0])
        self._blocks.append(block)
        self.size += block.memory
        if self.size > self.max_bytes:
            count, size = 0, self.size
            while size > self.max_bytes and count < len(self._blocks):
                size -= self._blocks[count].memory
                count += 1
            self._forget(count)

    def read(self, offset: int, max_bytes: int) -> list[Block]:
        """Return the blocks from this offset on, about `max_bytes`; none if the offset is no longer in memory."""
        first = bisect_right(self._bases, offset) - 1
        if first < 0:
            return []
        last, size = first, 0
        while last < len(self._blocks) and (size := size + len(self._blocks[last].body)) <= max_bytes:
            last += 1
        blocks = self._blocks[first : max(last, first + 1)]
        return [blocks[0].slice(offset - self._bases[first], len(blocks[0])), *blocks[1:]]

    def list_blocks(self) -> list[Block]:
        """Return all blocks. Any thread may call it."""
        return [*self._blocks]

    def find_received(self, offset: int) -> float | None:
        """Return when the event at this offset was received, in Unix seconds; None if it is not in memory."""
        place = bisect_right(self._bases, offset) - 1
        return self._blocks[place].received if place >= 0 else None

    def drop(self, before: int) -> None:
        """Drop the blocks wholly below this offset."""
        count = bisect_right(self._bases, before) - 1
        if count >= 0 and self._blocks[count].offsets[-1] < before:
            count += 1
        if count > 0:
            self._forget(count)

    def clear(self) -> None:
        """Drop all blocks."""
        self._forget(len(self._blocks))

    def _forget(self, count: int) -> None:
        self.size -= sum(block.memory for block in self._blocks[:count])
        del self._blocks[:count], self._bases[:count]
