"""The position of a lane, and the outcomes of its events. Pure."""

import json
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from operator import add, attrgetter
from typing import Final

from msgspec import Struct, field
from msgspec.structs import fields, replace


class Counts(Struct):
    """Events per outcome."""

    delivered: int = 0
    unselected: int = 0
    filtered: int = 0
    parked: int = 0
    expired: int = 0
    damaged: int = 0
    erased: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(add, values(self), values(other)))

    @property
    def total(self) -> int:
        """Events with an outcome."""
        return sum(values(self))


OUTCOMES: Final = tuple(column.name for column in fields(Counts))
values: Final[Callable[[Counts], tuple[int, ...]]] = attrgetter(*OUTCOMES)
"""Return the counts in the order of OUTCOMES."""
CURSOR_COLUMNS: Final = f"start, position, ahead, {', '.join(OUTCOMES)}"
"""The columns of a cursor in a table; `ahead` is JSON."""


class Ledger(Struct, frozen=True):
    """The ledger of one lane: accepted = delivered + unselected + filtered + parked + expired + damaged +
    erased + pending."""

    accepted: int
    counts: Counts

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(self.accepted + other.accepted, self.counts + other.counts)

    @property
    def pending(self) -> int:
        """Events without an outcome."""
        return self.accepted - self.counts.total


class Cursor(Struct):
    """Everything below `position` is settled, and so are the ranges `ahead` above it (start, stop), ascending."""

    start: int
    """The offset where the lane began. Older events do not concern it."""
    position: int
    ahead: list[tuple[int, int]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def settle(self, start: int, stop: int, counts: Counts) -> None:
        """Mark a range as settled. Ranges may come in any order, but each offset once."""
        self.counts += counts
        insort(self.ahead, (start, stop))
        while self.ahead and self.ahead[0][0] == self.position:
            self.position = self.ahead.pop(0)[1]
        self.ahead = merge_ranges(self.ahead)

    def settle_each(self, offsets: Sequence[int], counts: Counts) -> None:
        """Mark single events as settled. They may come in any order, but each offset once."""
        self.settle_ranges(make_ranges(sorted(offsets)), counts)

    def settle_ranges(self, ranges: Iterable[tuple[int, int]], counts: Counts) -> None:
        """Mark many ranges as settled. They may come in any order, but each offset once."""
        self.counts += counts
        self.ahead = merge_ranges(sorted([*self.ahead, *ranges]))
        if self.ahead and self.ahead[0][0] == self.position:
            self.position = self.ahead.pop(0)[1]

    def is_settled(self, offset: int) -> bool:
        """Return whether the event at this offset has an outcome. It must not be older than the lane."""
        return offset < self.position or any(start <= offset < stop for start, stop in self.ahead)

    def copy(self) -> "Cursor":
        """Return a copy of the cursor."""
        return replace(self, ahead=list(self.ahead), counts=replace(self.counts))

    def make_ledger(self, head: int) -> Ledger:
        """Return the ledger for a journal with this head."""
        return Ledger(head - self.start, replace(self.counts))


def encode_cursor(cursor: Cursor) -> tuple[object, ...]:
    """Return the values of a cursor for `CURSOR_COLUMNS`."""
    return cursor.start, cursor.position, json.dumps(cursor.ahead), *values(cursor.counts)


def parse_cursor(start: int, position: int, ahead: str, *counts: int) -> Cursor:
    """Parse the cursor of a row with `CURSOR_COLUMNS`."""
    return Cursor(start, position, [(first, stop) for first, stop in json.loads(ahead)], Counts(*counts))


def find_unsettled(start: int, stop: int, ahead: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the parts of `start` up to `stop` that are in none of the ascending ranges."""
    rest = []
    for first, last in ahead:
        if last > start and first < stop:
            if first > start:
                rest.append((start, first))
            start = last
    return [*rest, (start, stop)] if start < stop else rest


def make_ranges(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Make ranges of ascending single offsets."""
    if offsets and offsets[-1] - offsets[0] == len(offsets) - 1:
        return [(offsets[0], offsets[-1] + 1)]
    return merge_ranges([(offset, offset + 1) for offset in offsets])


def merge_ranges(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join adjoining ranges, which ascend. The batches under way limit how many remain."""
    joined: list[tuple[int, int]] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
