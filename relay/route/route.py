"""A connector's route: selection and filter chain compiled once, then applied block by block. Pure.

The cost is per event only where it must be: a block that is wanted whole passes through as it is, one that is not
wanted at all is never looked into.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from relay.api import Block, Event, Filter, Kind
from relay.catalogue import Selection
from relay.config import Redaction
from relay.guests import named

_type_of: Final = attrgetter("type")


@dataclass(frozen=True, slots=True)
class Failed:
    """An event that a filter could not handle."""

    event: Event
    reason: str


@dataclass(frozen=True, slots=True)
class Routed:
    """What a route makes of a block: the wanted events, and the offsets of those that were erased, that filters dropped
    or choked on. All others are unselected."""

    wanted: Block | None
    filtered: Sequence[int] = ()
    failed: Sequence[Failed] = ()
    erased: Sequence[int] = ()


NOTHING = Routed(None)


@dataclass(frozen=True, slots=True)
class Route:
    """Call it with a block."""

    selection: Selection
    filters: Sequence[Filter] = field(default=())

    def __call__(self, block: Block) -> Routed:
        """Route a block."""
        erased = [kind for kind in block.kinds if not kind.source and kind.is_erased]
        routed = self._route(block, erased)
        return replace(routed, erased=_erased(block)) if erased else routed

    def _route(self, block: Block, erased: Sequence[Kind]) -> Routed:
        selected = self._select(block, erased)
        if selected is None:
            return NOTHING
        return self._filter(selected) if self.filters else Routed(selected)

    def _select(self, block: Block, erased: Sequence[Kind]) -> Block | None:
        wants = [*map(self.selection.wants, map(_type_of, block.kinds))]
        if erased:
            wants = [wanted and kind not in erased for wanted, kind in zip(wants, block.kinds, strict=True)]
        if all(wants):
            return block
        if not any(wants):
            return None
        numbers = [number for number, kind in enumerate(block.index) if wants[kind]]
        if len(numbers) == len(block):
            return block
        return block.pick(numbers) if numbers else None

    def _filter(self, block: Block) -> Routed:
        kept: list[Event] = []
        filtered: list[int] = []
        failed: list[Failed] = []
        changed = False
        for event in block:  # one at a time: what a filter has decoded is let go of before the next one
            outcome = self._chain(event)
            if isinstance(outcome, Failed):
                failed.append(outcome)
            elif outcome is None:
                filtered.append(event.offset)
            else:
                kept.append(outcome)
                changed = changed or outcome is not event
        if len(kept) == len(block) and not changed:
            return Routed(block)
        return Routed(Block.of(kept) if kept else None, filtered, failed)

    def _chain(self, event: Event) -> Event | Failed | None:
        """One event through all filters. A filter that raises is a filter's bug or a strange event: either way it costs
        this one event here, and nothing else."""
        current = event
        for step in self.filters:
            following = applied(step, current)
            if following is None:
                return None
            if isinstance(following, Failed):
                return Failed(event, following.reason)
            current = following
        return current


def _erased(block: Block) -> list[int]:
    return [offset for offset, kind in zip(block.offsets, block.index, strict=True) if block.kinds[kind].is_erased]


def applied(step: Filter, event: Event) -> Event | Failed | None:
    """What one filter makes of an event."""
    try:
        following = step.apply(event)
    except BaseException as error:  # whatever it is, it is the filter's: nothing is awaited here
        return Failed(event, f"filter {step.name}: {Redaction(step.settings).clean(named(error))}")
    if following is None or isinstance(following, Event):
        return following
    return Failed(event, f"filter {step.name}: apply returned {type(following).__name__}, not an event or None")
