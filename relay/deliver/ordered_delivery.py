"""Sends the spans of a lane whose events have to stay in order by a key.

How it fails and recovers: events that wait for an earlier event of their key are held in memory, at most the lane's
`window` of them and `memory` bytes. They have no outcome yet: a crash or a stop leaves them to the next start. Each
event is settled for itself, so that a key whose deliveries fail for a while holds up no other.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, groupby
from operator import attrgetter
from typing import Final

import structlog

from relay.api import Batch, Block, Event
from relay.deliver.admission import Stopped
from relay.deliver.batch.builder import Span
from relay.deliver.batch.ordering import Admitted, Order
from relay.deliver.batch.parked_parts import ParkedParts
from relay.deliver.batch.parts import Parts, Settled, split_to_limits
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.delivery import Delivery
from relay.deliver.window import measure_memory
from relay.route import Failed
from relay.store import Cursor, Parked, find_unsettled, make_ranges

BEHIND: Final = "an earlier event of the same key is parked; it comes after that one has been delivered or dropped"
log = structlog.stdlib.get_logger()


class OrderedDelivery:
    """Sends spans so that no event overtakes an earlier event of its key."""

    def __init__(
        self,
        order: Order,
        delivery: Delivery,
        cursor: Cursor,
        cuts: Cuts,
        parked_parts: ParkedParts,
        look_for_parked: Callable[[], None],
    ) -> None:
        self.order = order
        self._delivery, self._cursor, self._window = delivery, cursor, delivery.admission.window
        self._cuts, self._parked_parts, self._look_for_parked = cuts, parked_parts, look_for_parked
        self._parts = Parts()
        self._freed = Admitted([], [])
        self._has_freed = asyncio.Event()
        self._behind = asyncio.Lock()
        """Has tasks park events one after the other. An event that is parked before an earlier event could go first."""

    async def send(self, group: asyncio.TaskGroup, span: Span) -> None:
        """Send what may go now. The rest follows in `run`. Events with an outcome by the route are settled at once."""
        to_come = chain(span.batch.offsets() if span.batch else (), (failed.event.offset for failed in span.failed))
        open_ranges = make_ranges(sorted({*to_come}))
        ranges = span.ranges or ((span.start, span.stop),)
        known = [one for start, stop in ranges for one in find_unsettled(start, stop, open_ranges)]
        self._cursor.settle_ranges(known, span.counts)
        self._window.settle(span.counts.total, 0)
        self.order.begin_parking(failed.event for failed in span.failed)
        if span.failed:
            await self._delivery.admission.start(group, partial(self._park_failed, span.failed), "park", 0)
        if span.batch is not None:
            self._parts.add(span.batch)
            admit = self.order.admit_together if span.ranges else self.order.admit
            await self._begin(group, admit(span.batch), span.batch, is_cut=span.is_cut)

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Send what has waited for an earlier event, for ever."""
        while True:
            await self._has_freed.wait()
            self._has_freed.clear()
            freed, self._freed = self._freed, Admitted([], [])
            await self._begin(group, freed)

    async def _begin(
        self, group: asyncio.TaskGroup, admitted: Admitted, whole: Batch | None = None, *, is_cut: bool = False
    ) -> None:
        """Send what was admitted. Send `whole` as it is, if all of it was admitted. `is_cut`: the batch was cut in the
        same way before."""
        if admitted.behind:
            await self._delivery.admission.start(group, partial(self._park_behind, admitted.behind), "park", 0)
        for events in admitted.going:
            is_whole = whole is not None and len(whole) == len(events)
            batch = whole if whole is not None and is_whole else _make_batch(events)
            if not (is_cut and is_whole):
                self._cuts.add_batch(batch)
            await self._delivery.admission.start(group, partial(self._deliver, batch), "deliver", len(batch))

    async def _deliver(self, batch: Batch) -> None:
        try:
            for one in split_to_limits(batch, self.order.limits):  # of what was sent together, if that was split
                await self._delivery.finish(one, self._settle, self._cuts)
        except Stopped:
            return

    async def _park_failed(self, failed: Sequence[Failed]) -> None:
        try:
            await self._delivery.parking.park_failed(failed)
        except Stopped:
            return
        self._settle(Settled(_make_batch([each.event for each in failed]), "parked"))

    async def _park_behind(self, events: Sequence[Event]) -> None:
        name = self._delivery.destination.name
        log.warning("events parked behind an earlier one", connector=name, events=len(events), offset=events[0].offset)
        try:
            async with self._behind:
                await self._delivery.parking.park([Parked.make(event, name, "order", BEHIND, 0) for event in events])
        except Stopped:
            return
        self._settle(Settled(_make_batch(events), "parked"))
        self._look_for_parked()  # what they came behind may be gone by now

    def _settle(self, settled: Settled) -> None:
        self._window.settle(0, measure_memory(settled.batch))
        self._parked_parts.record_outcome(settled)
        for each in [each for event in self._parts.settle(settled) for each in self._parked_parts.settle_events(event)]:
            self._cursor.settle_each(each.offsets, each.counts)
            self._window.settle(len(each.offsets), 0)
        freed = self.order.settle(settled.batch.places(), parked=settled.outcome == "parked")
        self._freed.going.extend(freed.going)
        self._freed.behind.extend(freed.behind)
        self._has_freed.set()


def _make_batch(events: Sequence[Event]) -> Batch:
    return Batch([Block.of([*same]) for _, same in groupby(events, attrgetter("received"))])
