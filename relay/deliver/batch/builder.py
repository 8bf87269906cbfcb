"""The batch builder: takes routed blocks, gives spans that keep within the batch limits. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from relay.api import Batch, BatchSettings, Block
from relay.deliver.batch.sent_together import Ranges
from relay.route import Failed, Routed
from relay.store import Counts


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the journal from `start` up to `stop`: a batch to deliver, events to park, and the counts of
    outcomes that are known (unselected, filtered, erased)."""

    start: int
    stop: int
    batch: Batch | None
    failed: Sequence[Failed]
    counts: Counts
    ranges: Ranges = ()
    """The offsets of the span, if they are not the whole stretch."""
    is_cut: bool = False
    """Whether the span was cut in the same way before."""
    is_split: bool = False
    """Whether the batch has parts of events that filters have split."""
    filtered: Sequence[int] = field(default=(), compare=False)
    erased: Sequence[int] = field(default=(), compare=False)
    """The offsets of the events that `counts` counts as filtered, and as erased."""

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.ranges) or self.stop - self.start

    def restrict_to(self, ranges: Ranges) -> "Span":
        """Return the span of these ranges alone, without the gaps between them."""
        mine = [(max(start, self.start), min(stop, self.stop)) for start, stop in ranges]
        mine = [(start, stop) for start, stop in mine if start < stop]
        gaps = self.stop - self.start - sum(stop - start for start, stop in mine)
        counts = structs.replace(self.counts, unselected=self.counts.unselected - gaps)
        return replace(self, ranges=mine, counts=counts)


class BatchBuilder:
    """Collects events from offset `start` on until a limit is reached. The rest begins the next span."""

    def __init__(self, start: int, limits: BatchSettings) -> None:
        self.start = self.stop = start
        self.limits = limits
        self.events = 0
        """Events, or parts of events, in the batch."""
        self._split = 0
        """By how much the parts outnumber their events."""
        self._size = 0
        self._blocks: list[Block] = []
        self._filtered: list[int] = []
        self._erased: list[int] = []
        self._failed: list[Failed] = []
        self._rest: Block | None = None
        """The last block that was added, if a part of it did not fit."""
        self._rest_at = 0
        """The first event of it that did not fit."""

    def add(self, stop: int, routed: Routed) -> None:
        """Add what a route made of the events up to (without) offset `stop`. Do not call it while `is_full`."""
        self.stop = stop
        self._filtered += routed.filtered
        self._erased += routed.erased
        self._failed += routed.failed
        self._rest, self._rest_at = routed.wanted, 0
        self._fill()

    @property
    def first_received(self) -> float:
        """When relay received the first wanted event, while there are `events`."""
        return self._blocks[0].received

    @property
    def is_empty(self) -> bool:
        """Whether no event was added yet."""
        return self.start == self.stop

    @property
    def is_full(self) -> bool:
        """Whether a limit is reached."""
        return self._rest is not None or self.events >= self.limits.events or self._size >= self.limits.size

    def _fill(self) -> None:
        """Move what fits of the rest into the batch, without an event of which not all parts fit. The first event of a
        batch goes in with all its parts, also if it exceeds the limits."""
        block, at = self._rest, self._rest_at
        if block is None:
            return
        by_size = bisect_right(block.ends, block.start(at) + self.limits.size - self._size, lo=at) - at
        stop = at + max(min(self.limits.events - self.events, by_size, len(block) - at), 0 if self._blocks else 1)
        if block.parts is not None:
            offsets = block.offsets
            while at < stop < len(block) and offsets[stop - 1] == offsets[stop]:
                stop -= 1
            if stop == at and not self._blocks:
                stop = bisect_right(offsets, offsets[stop], lo=stop)
        if stop == at:
            return
        taken = block.slice(at, stop)
        self._blocks.append(taken)
        self.events += stop - at
        if taken.parts is not None:
            self._split += stop - at - len({*taken.offsets})
        self._size += len(taken.body) + 1
        self._rest_at = stop
        if stop == len(block):
            self._rest = None

    def take(self) -> Span:
        """Close the span behind the last event that fitted, return it, and begin the next span there."""
        stop = self.stop if self._rest is None else self._rest.offsets[self._rest_at]
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
        if self._rest is not None:
            self._fill()
        return span
