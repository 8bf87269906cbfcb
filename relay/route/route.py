"""A connector's route: selection and filter chain, compiled once and applied block by block. Pure.

Events cost time only where they must: a block that is wanted whole passes unchanged, an unwanted block is never read.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from time import perf_counter
from typing import Final, NamedTuple

from relay.api import Block, Event, Filter
from relay.catalogue import Selection
from relay.route.filter_results import Failed, Made, apply_chain, apply_together, is_for_many

ENOUGH_BYTES: Final = 1 << 20
"""Bytes that filters keep at a time, all in memory."""
ENOUGH_S: Final = 0.02
"""Seconds that filters run at a time. Nothing else runs meanwhile."""
TOGETHER: Final = 1000
"""Events that a filter for many events gets at a time."""

_type_of, _source_of = attrgetter("type"), attrgetter("source")


class Routed(NamedTuple):
    """A routed block: the wanted events, and the offsets of erased, dropped and failed events. All others are
    unselected."""

    wanted: Block | None
    filtered: Sequence[int] = ()
    failed: Sequence[Failed] = ()
    erased: Sequence[int] = ()
    stop: int | None = None
    """The first unread offset, because the filters have done enough for once; None: all were read."""


def _take_portion(block: Block, number: int) -> Sequence[Event]:
    """Return the events of a block from this one on that filters get together."""
    events, size = list[Event](), 0
    for event in block.slice(number, min(number + TOGETHER, len(block))):
        events.append(event)
        size += len(event.body)
        if size >= ENOUGH_BYTES:
            break
    return events


NOTHING = Routed(None)


@dataclass(frozen=True, slots=True)
class Route:
    """Call it with a block."""

    selection: Selection
    filters: Sequence[Filter] = field(default=())

    def __call__(self, block: Block, *, part: bool = False) -> Routed:
        """Route a block. With `part`, a block with filters is routed as far as is enough for once."""
        erased = [kind for kind in block.kinds if kind.is_erased] if "" in map(_source_of, block.kinds) else ()
        wants = [*map(self.selection.wants, map(_type_of, block.kinds))]
        if erased:
            wants = [wanted and kind not in erased for wanted, kind in zip(wants, block.kinds, strict=True)]
        selected: Block | None = block
        if not all(wants):
            numbers = [number for number, kind in enumerate(block.index) if wants[kind]] if any(wants) else ()
            if len(numbers) < len(block):
                selected = block.pick(numbers) if numbers else None
        if selected is None:
            routed = NOTHING
        elif self.filters:
            routed = self._filter(selected, part=part)
        else:
            routed = Routed(selected)
        if not erased:
            return routed
        events, stop = zip(block.offsets, block.index, strict=True), routed.stop
        offsets = [offset for offset, kind in events if block.kinds[kind].is_erased and (stop is None or offset < stop)]
        return routed._replace(erased=offsets)

    def _filter(self, block: Block, *, part: bool) -> Routed:
        kept: list[Event] = []
        filtered: list[int] = []
        failed: list[Failed] = []
        changed, size, late = False, 0, perf_counter() + ENOUGH_S
        filters = self.filters
        takes_many, ready = any(map(is_for_many, filters)), deque[tuple[Event, Made]]()
        for number, event in enumerate(block):  # one at a time: what a filter has decoded is let go of before the next
            if not ready:
                if part and number and (size >= ENOUGH_BYTES or perf_counter() > late):
                    return self._routed(kept, filtered, failed, stop=event.offset)
                if takes_many:
                    events = _take_portion(block, number)
                    ready.extend(zip(events, apply_together(filters, events), strict=True))
            if ready:
                event, made = ready.popleft()  # noqa: PLW2901
            else:
                made = apply_chain(filters, event)
            if isinstance(made, Event):
                kept.append(made)
                if made is not event:
                    changed = True
                size += len(made.body)
            elif made is None:
                filtered.append(event.offset)
            elif isinstance(made, Failed):
                failed.append(made)
            else:
                kept += made
                changed = True
                size += sum(len(part.body) for part in made)
        return self._routed(kept, filtered, failed) if changed or len(kept) < len(block) else Routed(block)

    def _routed(
        self, kept: Sequence[Event], filtered: Sequence[int], failed: Sequence[Failed], stop: int | None = None
    ) -> Routed:
        return Routed(Block.of(kept) if kept else None, filtered, failed, stop=stop)
