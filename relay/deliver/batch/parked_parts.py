"""Parked parts of events that a lane delivers again after a restart, because other events of the batch, or other parts,
had no outcome.

How it fails and recovers: a parked part stays parked. It goes only if the same part is delivered now, with the cursor
that counts the delivery. If filters have changed and no longer make the part, it stays, and its event counts as
parked.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from relay.deliver.batch.builder import Span
from relay.deliver.batch.parts import Settled, SplitEvent
from relay.store import Counts, Parked


class ParkedParts:
    """The parked parts of one lane's events that are not settled."""

    def __init__(self, report_staying: Callable[[], None]) -> None:
        """`report_staying` is called when a part stays parked that was not tried again."""
        self._report_staying = report_staying
        self._untried: dict[int, dict[int, Parked]] = {}
        """Parked parts that were not tried again so far, by offset and part."""
        self._delivered: dict[int, list[Parked]] = {}
        """Parked parts that are delivered now, while their events have no outcome yet, by offset."""
        self._offsets: list[int] = []
        """The offsets of all at the beginning, ascending."""
        self._done: list[Parked] = []

    def reset(self, parked: Iterable[Parked]) -> None:
        """Begin with what lies parked of events that are not settled. Nothing is under way. Bodies do not matter."""
        self._untried, self._delivered = {}, {}
        for one in parked:
            self._untried.setdefault(one.event.offset, {})[one.part] = one
        self._offsets = sorted(self._untried)

    @property
    def done(self) -> Sequence[Parked]:
        """Parked parts that were delivered, with their events settled. They wait for the next checkpoint."""
        return tuple(self._done)

    def mark_saved(self, number: int) -> None:
        """Forget the first of those that are done, so many of which are on disk."""
        del self._done[:number]

    def awaits_checkpoint(self, offset: int) -> bool:
        """Return whether a part at this offset is done and waits for the next checkpoint."""
        return any(one.offset == offset for one in self._done)

    @property
    def numbers(self) -> list[int]:
        """The numbers of all parked events whose parts are tried again, or are done."""
        parked = [one.number for parts in self._untried.values() for one in parts.values()]
        delivered = [one.number for parts in self._delivered.values() for one in parts]
        return [*parked, *delivered, *(one.number for one in self._done)]

    def correct_counts(self, span: Span) -> Span:
        """Return the span with corrected counts: an event counts as parked if the span makes nothing of it now, and a
        part of it lies parked."""
        if not self._untried:
            return span
        made = {*(span.batch.offsets() if span.batch else ()), *(failed.event.offset for failed in span.failed)}
        counts, filtered, erased = span.counts, {*span.filtered}, {*span.erased}
        unread = "expired" if counts.expired else "damaged" if counts.damaged else ""
        for start, stop in span.ranges or ((span.start, span.stop),):
            for offset in self._offsets[bisect_left(self._offsets, start) : bisect_left(self._offsets, stop)]:
                if offset not in made and self._settle_event(offset):
                    by_route = "filtered" if offset in filtered else "erased" if offset in erased else "unselected"
                    counts += Counts(parked=1) + Counts(**{unread or by_route: -1})
        return replace(span, counts=counts)

    def record_outcome(self, settled: Settled) -> None:
        """Record the outcome of events or parts. What is parked again lies parked like any other event."""
        if not self._untried:
            return
        for offset, part in settled.batch.places():
            one = self._untried.get(offset, {}).pop(part, None)
            if one is not None and settled.outcome != "parked":
                self._delivered.setdefault(offset, []).append(one)

    def settle_events(self, events: Settled | SplitEvent) -> Iterator[Settled | SplitEvent]:
        """Settle events of which every part has its outcome; yield their outcomes. An event of which a part stays
        parked is parked."""
        if not self._untried:
            yield events
            return
        staying = {offset for offset in events.offsets if self._settle_event(offset)}
        if not staying:
            yield events
            return
        yield SplitEvent(sorted(staying), "parked")
        if others := [offset for offset in events.offsets if offset not in staying]:
            yield SplitEvent(others, events.outcome)

    def _settle_event(self, offset: int) -> bool:
        """Settle the event at an offset; return whether a part stays parked that was not tried again."""
        self._done += self._delivered.pop(offset, ())
        stays = bool(self._untried.pop(offset, None))
        if stays:
            self._report_staying()
        return stays
