"""How far a command is that reads the journal of every partition, for whoever waits for it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

import msgspec

from relay.api import Block
from relay.store import PartitionView, Range, Unavailable

INTERVAL_S: Final = 0.5
"""Seconds between two reports. The first report comes after twice as long."""
PROGRESS: Final = b'{"read":'
"""The prefix of a line that says how far the reading is."""
Tell: TypeAlias = Callable[[int, int], object]
"""Is told how many events the reading has passed, of how many."""


class JournalProgress:
    """Reports how far the reading is, block by block."""

    def __init__(self, tell: Tell | None = None, interval: float = INTERVAL_S) -> None:
        """`tell`: None: nobody waits, and nothing is counted. `interval`: as INTERVAL_S."""
        self.tell = tell
        self._interval, self._next = interval, 0.0
        self._spans: dict[int, Range] = {}
        self._at: dict[int, int] = {}

    def begin(self, views: Sequence[PartitionView], start: int = 0, stop: int | None = None) -> None:
        """Find how many events there are between two offsets. Call it before the reading."""
        if self.tell is None:
            return
        for view in views:
            with suppress(Unavailable):  # the reading itself says so
                first, head = view.view_log().find_span()
                first = max(first, start)
                self._spans[view.number] = first, max(first, head if stop is None else min(head, stop))
        self._next = time.monotonic() + 2 * self._interval

    def note(self, number: int, position: int) -> None:
        """Note that the reading of a partition has come to an offset."""
        if self.tell is None:
            return
        self._at[number] = position
        if (now := time.monotonic()) >= self._next:
            self._next = now + self._interval
            if of := sum(stop - start for start, stop in self._spans.values()):  # 0: a lost relay.db knew the head
                self.tell(self._count(), of)

    def _count(self) -> int:
        spans = {number: self._spans[number] for number in self._at if number in self._spans}
        return sum(min(max(self._at[number], start), stop) - start for number, (start, stop) in spans.items())

    def follow(self, number: int, blocks: Iterator[tuple[str, Block]]) -> Iterator[tuple[str, Block]]:
        """Yield the blocks of a partition, and note them."""
        for part, block in blocks:
            yield part, block
            self.note(number, block.offsets[-1] + 1)


UNTOLD: Final = JournalProgress()
"""Of a reading for which nobody waits."""


def encode_progress(read: int, of: int) -> bytes:
    """Encode how far the reading is as a line."""
    return msgspec.json.encode({"read": read, "of": of}) + b"\n"
