"""Events that filters have split: what of them goes together, and when an event has its outcome. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from relay.api import Batch, BatchSettings
from relay.state import Counts

Outcome = Literal["unselected", "filtered", "delivered", "parked"]
RANKS: Final[dict[Outcome, int]] = {"unselected": 0, "filtered": 1, "delivered": 2, "parked": 3}
"""Of the outcomes of its parts an event has the highest: it is parked if one is, and filtered only if all are."""


class Settled(NamedTuple):
    """Events, or parts of events, that have their outcome."""

    batch: Batch
    outcome: Outcome

    @property
    def offsets(self) -> Sequence[int]:
        """Where they are in the journal."""
        return self.batch.offsets()

    @property
    def counts(self) -> Counts:
        """The events, counted."""
        return Counts(**{self.outcome: len(self.batch)})


class SplitEvent(NamedTuple):
    """Events of which every part has its outcome."""

    offsets: Sequence[int]
    outcome: Outcome

    @property
    def counts(self) -> Counts:
        """The events, counted."""
        return Counts(**{self.outcome: len(self.offsets)})


class Parts:
    """The events under way that were split."""

    def __init__(self, batch: Batch | None = None) -> None:
        self._left: dict[int, int] = {}
        """How many parts have no outcome yet, by offset."""
        self._outcomes: dict[int, Outcome] = {}
        """What became of others."""
        if batch is not None:
            self.begin(batch)

    def begin(self, batch: Batch) -> None:
        """All parts of these events are under way."""
        if batch.is_split:
            self._left |= {offset: parts for offset, parts in Counter(batch.offsets()).items() if parts > 1}

    def end(self, settled: Settled) -> Sequence[Settled | SplitEvent]:
        """Events or parts have their outcome; return the events that are settled because of it."""
        if not self._left:
            return [settled]
        whole: list[int] = []
        ended: dict[int, Outcome] = {}
        for offset in settled.offsets:
            if offset not in self._left:
                whole.append(offset)
                continue
            outcome = highest(self._outcomes.pop(offset, settled.outcome), settled.outcome)
            self._left[offset] -= 1
            if self._left[offset]:
                self._outcomes[offset] = outcome
            else:
                del self._left[offset]
                ended[offset] = outcome
        found = [SplitEvent(whole, settled.outcome)] if whole else []
        return found + [SplitEvent([offset], outcome) for offset, outcome in ended.items()]


def highest(one: Outcome, other: Outcome) -> Outcome:
    """The outcome of an event of which one part has the one and another the other."""
    return max(one, other, key=RANKS.__getitem__)


def whole(batch: Batch | None, settled: Iterable[Settled]) -> Iterator[Settled | SplitEvent]:
    """What has its outcome of the events of a batch."""
    parts = Parts(batch)
    for each in settled:
        yield from parts.end(each)


def within(batch: Batch, limits: BatchSettings) -> Iterator[Batch]:
    """A batch in as many as keep within the limits: the parts of one event may be more than that. An event or a part
    that is larger than all limits goes alone."""
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
