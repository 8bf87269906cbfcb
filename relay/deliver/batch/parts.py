"""Parts of events that filters have split: what goes together, and when an event has its outcome. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from relay.api import Batch, BatchSettings
from relay.store import Counts

EventOutcome = Literal["unselected", "filtered", "delivered", "parked"]
RANKS: Final[dict[EventOutcome, int]] = {"unselected": 0, "filtered": 1, "delivered": 2, "parked": 3}
"""An event has the highest outcome of its parts: it is parked if one part is, and filtered only if all parts are."""


class Settled(NamedTuple):
    """Events, or parts of events, that have their outcome."""

    batch: Batch
    outcome: EventOutcome

    @property
    def offsets(self) -> Sequence[int]:
        """The offsets of the events."""
        return self.batch.offsets()

    @property
    def counts(self) -> Counts:
        """The events, counted by outcome."""
        return Counts(**{self.outcome: len(self.batch)})


class SplitEvent(NamedTuple):
    """Events of which every part has its outcome."""

    offsets: Sequence[int]
    outcome: EventOutcome

    @property
    def counts(self) -> Counts:
        """The events, counted by outcome."""
        return Counts(**{self.outcome: len(self.offsets)})


class Parts:
    """The events under way that filters have split."""

    def __init__(self, batch: Batch | None = None) -> None:
        self._left: dict[int, int] = {}
        """How many parts have no outcome yet, by offset."""
        self._outcomes: dict[int, EventOutcome] = {}
        """The highest outcome of the other parts, by offset."""
        if batch is not None:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        """Add the split events of a batch. All their parts are under way."""
        if batch.is_split:
            self._left |= {offset: parts for offset, parts in Counter(batch.offsets()).items() if parts > 1}

    def settle(self, settled: Settled) -> Sequence[Settled | SplitEvent]:
        """Settle events or parts; return the events of which every part has its outcome now."""
        if not self._left:
            return [settled]
        whole: list[int] = []
        ended: dict[int, EventOutcome] = {}
        for offset in settled.offsets:
            if offset not in self._left:
                whole.append(offset)
                continue
            outcome = combine_outcomes(self._outcomes.pop(offset, settled.outcome), settled.outcome)
            self._left[offset] -= 1
            if self._left[offset]:
                self._outcomes[offset] = outcome
            else:
                del self._left[offset]
                ended[offset] = outcome
        found = [SplitEvent(whole, settled.outcome)] if whole else []
        return found + [SplitEvent([offset], outcome) for offset, outcome in ended.items()]


def combine_outcomes(one: EventOutcome, other: EventOutcome) -> EventOutcome:
    """Return the outcome of an event whose parts have these two outcomes."""
    return max(one, other, key=RANKS.__getitem__)


def settle_whole_events(batch: Batch | None, settled: Iterable[Settled]) -> Iterator[Settled | SplitEvent]:
    """Yield the events of a batch of which every part has its outcome."""
    parts = Parts(batch)
    for each in settled:
        yield from parts.settle(each)


def split_to_limits(batch: Batch, limits: BatchSettings) -> Iterator[Batch]:
    """Yield a batch in pieces within the limits, which the parts of one event may exceed. An event or part larger than
    all limits goes alone."""
    if len(batch) <= limits.events and batch.size <= limits.size:
        yield batch
        return
    first, size = 0, 0
    for number, body in enumerate(batch.bodies()):
        if number > first and (number - first >= limits.events or size + len(body) > limits.size):
            yield batch.pick(range(first, number))
            first, size = number, 0
        size += len(body) + 1
    yield batch.pick(range(first, len(batch)))
