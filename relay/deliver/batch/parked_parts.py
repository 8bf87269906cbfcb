"""What lies parked of events that a lane takes once more: their batch or other parts had no outcome before a restart.

How it fails and recovers: a parked part stays where it lies. It goes only if the same part is delivered now, with the
cursor that counts that. If filters have changed and no longer make that part, it stays, and its event counts as parked.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from relay.deliver.batch.builder import Span
from relay.deliver.batch.parts import Settled, SplitEvent
from relay.state import Counts, Parked


class ParkedParts:
    """The parked parts of one lane's events that are not settled."""

    def __init__(self, told: Callable[[], None]) -> None:
        """`told` is called when something stays parked that was not tried again."""
        self._told = told
        self._lying: dict[int, dict[int, Parked]] = {}
        """By offset and part: not tried again so far."""
        self._delivered: dict[int, list[Parked]] = {}
        """By offset: delivered now, while their events have no outcome yet."""
        self._offsets: list[int] = []
        """Of those that lay there at the beginning, ascending."""
        self._done: list[Parked] = []

    def begin(self, lying: Iterable[Parked]) -> None:
        """Nothing is on its way; this lies parked of events that are not settled. Bodies do not matter."""
        self._lying, self._delivered = {}, {}
        for one in lying:
            self._lying.setdefault(one.event.offset, {})[one.part] = one
        self._offsets = sorted(self._lying)

    @property
    def done(self) -> Sequence[Parked]:
        """Those that were delivered, with their events settled: they only wait for the cursor to be saved."""
        return tuple(self._done)

    def saved(self, number: int) -> None:
        """So many of those that are done are on disk."""
        del self._done[:number]

    def is_going(self, offset: int) -> bool:
        """Whether something that is done lies parked there still."""
        return any(one.offset == offset for one in self._done)

    @property
    def numbers(self) -> list[int]:
        """Of all parked events whose parts are tried again, or are done."""
        lying = [one.number for parts in self._lying.values() for one in parts.values()]
        delivered = [one.number for parts in self._delivered.values() for one in parts]
        return [*lying, *delivered, *(one.number for one in self._done)]

    def counted(self, span: Span) -> Span:
        """The same span, with the events as parked that it makes nothing of now, but of which something lies parked."""
        if not self._lying:
            return span
        made = {*(span.batch.offsets() if span.batch else ()), *(failed.event.offset for failed in span.failed)}
        counts = span.counts
        for offset in self._in(span.ranges or ((span.start, span.stop),)):
            if offset not in made and self._stays(offset):
                counts += Counts(parked=1) + Counts(**{_outcome(span, offset): -1})
        return replace(span, counts=counts)

    def _in(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        found: list[int] = []
        for start, stop in ranges:
            found += self._offsets[bisect_left(self._offsets, start) : bisect_left(self._offsets, stop)]
        return found

    def tried(self, settled: Settled) -> None:
        """Events or parts have their outcome: what is parked once more lies there as any other."""
        if not self._lying:
            return
        for offset, part in settled.batch.places():
            one = self._lying.get(offset, {}).pop(part, None)
            if one is not None and settled.outcome != "parked":
                self._delivered.setdefault(offset, []).append(one)

    def ended(self, events: Settled | SplitEvent) -> Iterator[Settled | SplitEvent]:
        """Events have their outcome, all parts of each: the outcomes with what stays parked."""
        if not self._lying:
            yield events
            return
        staying = {offset for offset in events.offsets if self._stays(offset)}
        if not staying:
            yield events
            return
        yield SplitEvent(sorted(staying), "parked")
        if others := [offset for offset in events.offsets if offset not in staying]:
            yield SplitEvent(others, events.outcome)

    def _stays(self, offset: int) -> bool:
        """The event there is settled; whether something of it stays parked that was not tried again."""
        self._done += self._delivered.pop(offset, ())
        stays = bool(self._lying.pop(offset, None))
        if stays:
            self._told()
        return stays


def _outcome(span: Span, offset: int) -> str:
    """How a span counts an event that it makes nothing of."""
    if span.counts.expired or span.counts.damaged:
        return "expired" if span.counts.expired else "damaged"
    return "filtered" if offset in span.filtered else "erased" if offset in span.erased else "unselected"
