"""The batch that is forming: takes routed blocks, gives spans that keep within the batch limits. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from relay.api import Batch, BatchSettings, Block
from relay.deliver.batch.sent_together import Ranges
from relay.route import Failed, Routed
from relay.state import Counts


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the journal from `start` up to `stop`, and what the lane owes it: a batch to deliver, events to
    park. `counts` holds the outcomes that are clear already (unselected, filtered, erased)."""

    start: int
    stop: int
    batch: Batch | None
    failed: Sequence[Failed]
    counts: Counts
    ranges: Ranges = ()
    """What of the stretch it is about, where that is not all."""
    is_cut: bool = False
    """Whether it was cut so before."""
    is_split: bool = False
    """Whether the batch has parts of events that filters have split."""
    filtered: Sequence[int] = field(default=(), compare=False)
    erased: Sequence[int] = field(default=(), compare=False)
    """The offsets that `counts` holds as such."""

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.ranges) or self.stop - self.start

    def within(self, ranges: Ranges) -> "Span":
        """Of a span over gaps: the same without these, where `ranges` is all there is."""
        mine = [(max(start, self.start), min(stop, self.stop)) for start, stop in ranges]
        mine = [(start, stop) for start, stop in mine if start < stop]
        gaps = self.stop - self.start - sum(stop - start for start, stop in mine)
        counts = replace(self.counts, unselected=self.counts.unselected - gaps)
        return replace(self, ranges=mine, counts=counts)


class BatchBuilder:
    """Collects from offset `start` on until a limit is reached; what is over begins the next span."""

    def __init__(self, start: int, limits: BatchSettings) -> None:
        self.start = self.stop = start
        self.limits = limits
        self.events = 0
        """Or parts of events."""
        self._split = 0
        """By how much parts are more than their events."""
        self._size = 0
        self._blocks: list[Block] = []
        self._filtered: list[int] = []
        self._erased: list[int] = []
        self._failed: list[Failed] = []
        self._over: Block | None = None
        """The last block that was added, if not all of it fitted."""
        self._at = 0
        """The first event of it that did not."""

    def add(self, stop: int, routed: Routed) -> None:
        """Take what a route made of the events up to (without) offset `stop`; not while `full`."""
        self.stop = stop
        self._filtered += routed.filtered
        self._erased += routed.erased
        self._failed += routed.failed
        self._over, self._at = routed.wanted, 0
        self._fill()

    @property
    def received(self) -> float:
        """When relay received the first event that is wanted, while there are `events`."""
        return self._blocks[0].received

    @property
    def empty(self) -> bool:
        """Whether no event was looked at yet."""
        return self.start == self.stop

    @property
    def full(self) -> bool:
        """Whether a limit is reached."""
        return self._over is not None or self.events >= self.limits.events or self._size >= self.limits.size

    def _fill(self) -> None:
        """Move what fits of the block; it is cut only as far as it is taken."""
        block = self._over
        if block is None or not (room := self._room(block)):
            return
        taken = block.slice(self._at, self._at + room)
        self._blocks.append(taken)
        self.events += room
        if taken.parts is not None:
            self._split += room - len({*taken.offsets})
        self._size += len(taken.body) + 1
        self._at += room
        if self._at == len(block):
            self._over = None

    def _room(self, block: Block) -> int:
        """How many of the block's next events still fit; an event larger than all limits goes alone."""
        end = block.start(self._at) + self.limits.size - self._size
        by_size = bisect_right(block.ends, end, lo=self._at) - self._at
        fit = min(self.limits.events - self.events, by_size, len(block) - self._at)
        fit = max(fit, 0 if self._blocks else 1)
        return fit if block.parts is None else self._whole(block, fit)

    def _whole(self, block: Block, fit: int) -> int:
        """The same without an event of which not all parts fit; a batch begins with all parts of one."""
        offsets, stop = block.offsets, self._at + fit
        while self._at < stop < len(block) and offsets[stop - 1] == offsets[stop]:
            stop -= 1
        if stop == self._at and not self._blocks:
            stop = bisect_right(offsets, offsets[stop], lo=stop)
        return stop - self._at

    def take(self) -> Span:
        """Close the span behind the last event that fitted, and begin the next one there."""
        stop = self.stop if self._over is None else self._over.offsets[self._at]
        filtered = failed = erased = 0
        if self._filtered or self._failed or self._erased:
            filtered = bisect_left(self._filtered, stop)
            failed = bisect_left(self._failed, stop, key=lambda failed: failed.event.offset)
            erased = bisect_left(self._erased, stop)
        rest = stop - self.start - self.events + self._split - filtered - failed - erased
        counts = Counts(unselected=rest, filtered=filtered, erased=erased)
        batch = Batch(self._blocks) if self._blocks else None
        span = Span(
            self.start,
            stop,
            batch,
            self._failed[:failed],
            counts,
            is_split=self._split > 0,
            filtered=self._filtered[:filtered],
            erased=self._erased[:erased],
        )
        self.start, self.events, self._split, self._size, self._blocks = stop, 0, 0, 0, []
        if filtered or failed or erased:
            self._filtered, self._failed = self._filtered[filtered:], self._failed[failed:]
            self._erased = self._erased[erased:]
        if self._over is not None:
            self._fill()
        return span
