"""The batch that is forming: takes routed blocks, gives spans that keep within the batch limits. Pure."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from relay.api import Batch, BatchSettings, Block
from relay.journal import Counts
from relay.route import Failed, Routed


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the journal from `start` up to `stop`, and what the lane owes it: a batch to deliver, events to
    park. `counts` holds the outcomes that are clear already (unselected, filtered)."""

    start: int
    stop: int
    batch: Batch | None
    failed: Sequence[Failed]
    counts: Counts

    def __len__(self) -> int:
        return self.stop - self.start


class Forming:
    """Collects from offset `start` on until a limit is reached; what is over begins the next span."""

    def __init__(self, start: int, limits: BatchSettings) -> None:
        self.start = self.stop = start
        self.limits = limits
        self.events = 0
        self._size = 0
        self._blocks: list[Block] = []
        self._filtered: list[int] = []
        self._failed: list[Failed] = []
        self._over: deque[Block] = deque()

    def add(self, stop: int, routed: Routed) -> None:
        """Take what a route made of the events up to (without) offset `stop`."""
        self.stop = stop
        self._filtered += routed.filtered
        self._failed += routed.failed
        if routed.wanted is not None:
            self._over.append(routed.wanted)
        self._fill()

    @property
    def empty(self) -> bool:
        """Whether no event was looked at yet."""
        return self.start == self.stop

    @property
    def full(self) -> bool:
        """Whether a limit is reached."""
        return bool(self._over) or self.events >= self.limits.events or self._size >= self.limits.size

    def _fill(self) -> None:
        while self._over and (room := self._room(self._over[0])):
            block = self._over.popleft()
            if room < len(block):
                self._over.appendleft(block.slice(room, len(block)))
            taken = block.slice(0, room)
            self._blocks.append(taken)
            self.events += len(taken)
            self._size += len(taken.body) + 1

    def _room(self, block: Block) -> int:
        """How many of the block's events still fit; an event larger than all limits goes alone."""
        fit = min(self.limits.events - self.events, bisect_right(block.ends, self.limits.size - self._size))
        return max(fit, 0 if self._blocks else 1)

    def take(self) -> Span:
        """Close the span behind the last event that fitted, and begin the next one there."""
        stop = self._over[0].offsets[0] if self._over else self.stop
        filtered, failed = bisect_left(self._filtered, stop), self._failures_before(stop)
        rest = stop - self.start - self.events - filtered - failed
        counts = Counts(unselected=rest, filtered=filtered)
        batch = Batch(self._blocks) if self._blocks else None
        span = Span(self.start, stop, batch, self._failed[:failed], counts)
        self.start, self.events, self._size, self._blocks = stop, 0, 0, []
        self._filtered, self._failed = self._filtered[filtered:], self._failed[failed:]
        self._fill()
        return span

    def _failures_before(self, offset: int) -> int:
        return bisect_left(self._failed, offset, key=lambda failed: failed.event.offset)
