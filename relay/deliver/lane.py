"""A lane: runs one connector, from its cursor to the outcome of each event.

How it fails and recovers:

- The journal is cut into spans. A span is settled when every event in it has an outcome. Only settled spans move the
  cursor, in any order. A crash sends events again that were sent and not saved as settled: at most `window` events.
- A lane begins once its connector is open. Until then, however long that takes, its events wait on disk.
- A slow or dead destination holds `concurrency` batches in memory. The lane reads no further: its events wait on disk.
- Events that cannot be read are skipped and count as damaged. Events that have left the journal count as expired.
- An error that is not the destination's (a disk that refuses to be read, a bug) stops this lane alone. The lane starts
  again from its cursor after RESTART_S, as often as it takes.
- An erasure puts the lane to rest: the lane forgets what it has in memory, and reads it again from its cursor.
- Before a lane begins again, threads that were left behind have to be back.
- At its start a lane first sends what was under way before, in the same batches (`cuts`), so that the keys are the
same.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from msgspec import Struct

from relay.api import Batch, BatchSettings, Block
from relay.catalogue import Selection
from relay.deliver.admission import Stopped
from relay.deliver.batch.builder import Span
from relay.deliver.batch.groups import divide_by_group
from relay.deliver.batch.parked_parts import ParkedParts
from relay.deliver.batch.parts import Settled, SplitEvent, settle_whole_events, split_to_limits
from relay.deliver.batch.reader import BatchReader
from relay.deliver.batch.sent_together import ENDLESS, Cuts, make_settled_test, resume
from relay.deliver.delivery import Delivery
from relay.deliver.ordered_delivery import OrderedDelivery
from relay.deliver.result import find_culprit
from relay.deliver.window import measure_memory
from relay.guests import format_trace, name_error
from relay.route import Failed, Route
from relay.store import Attempts, Counts, Cursor, Log, Parked, is_logged

RESTART_S: Final = 10.0
AWAY_S: Final = 1.0
"""Seconds until a lane starts again that has failed because the store is away."""
REST_S: Final = 5.0
"""How long attempts under way may go on when the lane is put to rest, in seconds. Their results are not awaited after
that."""
Taps = set[Callable[[Block], object]]
"""Functions that get each block after the filters, on its way to the connector. They must be quick."""
log = structlog.stdlib.get_logger()


class Snapshot(Struct, frozen=True):
    """What a checkpoint saves of a lane, all or nothing."""

    cursor: Cursor
    events: int
    """Events that are not sent again once this is saved."""
    delivered_again: Sequence[Parked] = ()
    """Parked events that have an outcome now. The cursor counts them."""
    delivered_parts: Sequence[Parked] = ()
    """Parked parts that were delivered, of events that were not settled before a restart."""
    attempts: Sequence[Attempts] = ()
    """Attempts at this destination, by the lane and by replays beside it."""


class Lane:
    """One connector's way through the journal. The lane of a replay ends where the replay ends."""

    def __init__(
        self,
        delivery: Delivery,
        limits: BatchSettings,
        route: Route,
        cursor: Cursor,
        *,
        journal: Log,
        ready: Callable[[], Coroutine[Any, Any, None]],
        cuts: Cuts,
        until: int = ENDLESS,
    ) -> None:
        """`ready` returns once the connector is open."""
        self.destination = delivery.destination
        self.name = self.destination.name
        self.cursor = cursor
        self._delivery, self._limits, self._route, self._journal = delivery, limits, route, journal
        self._admission, self._window = delivery.admission, delivery.admission.window
        self._ready, self._cuts = ready, cuts
        self._stop, self._halt = asyncio.Event(), asyncio.Event()
        self._awake = asyncio.Lock()
        """Held while anything is under way."""
        self._patience: asyncio.Timeout | None = None
        self.until = until
        """The offset at which the lane ends."""
        self._ordered: OrderedDelivery | None = None
        self._parked_parts = ParkedParts(self.wake_parked_replay)
        self.taps: Taps = set()
        self._fault = "", -1
        self._under_way: set[SpanInFlight] = set()
        self._saved = cursor.copy()

    def try_destination(self) -> None:
        """Try at once what waits for the destination."""
        self._admission.try_now()

    @property
    def fault(self) -> str:
        """Why the lane failed where it stands now, if the destination is not to blame; else ""."""
        what, position = self._fault
        return what if position == self.cursor.position else ""

    @property
    def has_ended(self) -> bool:
        """Whether the lane has come to its end."""
        return self.cursor.position >= self.until

    @property
    def is_stopping(self) -> bool:
        """Whether the lane begins nothing new."""
        return self._stop.is_set()

    @property
    def selection(self) -> Selection:
        """What the connector wants."""
        return self._route.selection

    async def run(self) -> None:
        """Deliver until `stop` or the end; return when the deliveries under way have ended."""
        async with asyncio.TaskGroup() as group:
            ready = group.create_task(self._ready(), name=f"lane {self.name}: connector is open")
            stopped = group.create_task(self._stop.wait(), name=f"lane {self.name}: stop")
            await _wait_for_first((ready, stopped))
            is_ready = ready.done()
        if not is_ready:
            return
        while not self._stop.is_set() and not self.has_ended:
            try:
                await self._delivery.wait_for_threads(self._delivery.left, self._admission.sleep)
            except Stopped:
                async with self._awake:  # until the rest is over
                    continue
            try:
                async with self._awake:
                    await self._run()
            except Exception as error:
                again_s = AWAY_S
                if not is_logged(error):
                    self._fault, again_s = (name_error(find_culprit(error)), self.cursor.position), RESTART_S
                    told = {"connector": self.name, "in_s": again_s, "exception": format_trace(error)}
                    log.error("lane failed, starts again", **told)
                with suppress(TimeoutError):
                    async with asyncio.timeout(again_s):
                        await self._stop.wait()

    async def _run(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as self._patience:
                await self._prepare()
                try:
                    async with asyncio.TaskGroup() as group:
                        work = self._start_tasks(group)
                        halted = group.create_task(self._halt.wait(), name=f"lane {self.name}: halt")
                        await _wait_for_first((*work, halted))
                finally:  # settle events with an outcome, of spans that were cut short: they are not sent again
                    for each in [each for sent in self._under_way for each in self._settle_events(sent)]:
                        self.cursor.settle_each(each.offsets, each.counts)
                        self._window.settle(len(each.offsets), 0)  # the lane stops: nothing is waited for
                    self._under_way.clear()

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Inside, nothing is under way and the lane has no event in memory. After that, the lane goes on from its
        cursor."""
        self._halt.set()
        self._admission.stop()
        if self._patience is not None:
            with suppress(RuntimeError):  # it rests already
                self._patience.reschedule(asyncio.get_running_loop().time() + REST_S)
        try:
            async with self._awake:
                yield
        finally:
            if not self._stop.is_set():
                self._halt.clear()
                self._admission.go_on()

    async def _prepare(self) -> None:
        """Start from a clean state: nothing is under way."""
        await self._cuts.open()
        self._window.reset()
        if order := self._delivery.make_order(self._limits):
            self._ordered = OrderedDelivery(
                order, self._delivery, self.cursor, self._cuts, self._parked_parts, self.wake_parked_replay
            )

    def _start_tasks(self, group: asyncio.TaskGroup) -> Sequence[asyncio.Task[None]]:
        tasks = [group.create_task(self._read_spans(group), name=f"lane {self.name}: collect")]
        if self._ordered:
            tasks.append(group.create_task(self._ordered.run(group), name=f"lane {self.name}: send what waited"))
        return tasks

    def wake_parked_replay(self) -> None:
        """Do nothing: the lane of a replay delivers no parked events."""

    def stop(self) -> None:
        """Begin nothing new."""
        self._stop.set()
        self._halt.set()
        self._admission.stop()

    def snapshot(self) -> Snapshot:
        """Return what to save. Hand it to `mark_saved` after the save."""
        return Snapshot(self.cursor.copy(), self._window.unsaved)

    def mark_saved(self, snapshot: Snapshot) -> None:
        """Note that a snapshot is on disk: its events are not sent again."""
        self._window.mark_saved(snapshot.events)
        self._saved = snapshot.cursor
        self._cuts.forget(make_settled_test(snapshot.cursor))

    def close(self) -> None:
        """Close the saved cuts of a lane that has ended."""
        self._cuts.close(make_settled_test(self._saved))

    async def _read_spans(self, group: asyncio.TaskGroup) -> None:
        """Send span after span. Settle at once a span without events to send or park."""
        cuts = resume(self._cuts.all, self.cursor, min(self._journal.head, self.until))
        reader = BatchReader(self._journal, self.cursor, self._route, self._limits, self.until, cuts)
        try:
            while (found := await reader.read_next()) is not None:
                span = self._parked_parts.correct_counts(found)
                if span.batch is not None or span.failed:
                    await self._admission.admit(len(span), size_of_span(span))
                    await self._send(group, span)
                    continue
                if expired := span.counts.expired:
                    why = "they had to leave the journal before they were delivered"
                    log.error("events expired", connector=self.name, events=expired, offset=span.start, reason=why)
                if damaged := span.counts.damaged:
                    where = {"offset": span.start, "up_to_offset": span.stop}
                    where |= {"replay": True} if self.until < ENDLESS else {}
                    why = "they could not be read when their turn came"
                    log.error("events are damaged", connector=self.name, events=damaged, **where, reason=why)
                self._settle(span, span.counts)
                if self.cursor.position >= self._journal.head and self.destination.in_flight.is_idle:
                    self.destination.health.record_recovery()  # what failed is erased, expired or damaged by now
        finally:
            reader.close()

    async def _send(self, group: asyncio.TaskGroup, span: Span) -> None:
        batch = span.batch
        if self.taps and batch is not None:
            for tap in self.taps:
                for block in batch.blocks:
                    tap(block)
        if self._ordered is not None:
            await self._ordered.send(group, span)
            return
        if batch is not None and not span.is_cut:
            remember = self._cuts.add_batch if span.ranges else self._cuts.add_stretch
            remember(batch)
        batches = (Batch(()),) if batch is None else divide_by_group(batch, self._limits.group_by)
        if span.is_split:  # the parts of one event may be more than goes at a time
            batches = [one for group in batches for one in split_to_limits(group, self._limits)]
        sent = SpanInFlight(span, len(batches))
        self._under_way.add(sent)
        for one in batches:
            await self._admission.start(group, partial(self._deliver, sent, one), "deliver", len(one))

    def _settle(self, span: Span, counts: Counts) -> None:
        if span.ranges:
            self.cursor.settle_ranges(span.ranges, counts)
        else:
            self.cursor.settle(span.start, span.stop, counts)

    async def _deliver(self, sent: "SpanInFlight", batch: Batch) -> None:
        try:
            failed, sent.failed = sent.failed, ()
            await self._delivery.parking.park_failed(failed)
            if batch.blocks:
                await self._delivery.finish(batch, sent.settled.append, self._cuts)
        except Stopped:
            return
        sent.left -= 1
        if not sent.left:  # every event of the span has an outcome
            span = sent.span
            counts = span.counts + Counts(parked=len(span.failed))
            self._settle(span, sum((each.counts for each in self._settle_events(sent)), counts))
            self._window.settle(len(span), size_of_span(span))
            self._under_way.discard(sent)

    def _settle_events(self, sent: "SpanInFlight") -> Iterator[Settled | SplitEvent]:
        """Yield the events of a span of which every part has an outcome."""
        for each in sent.settled:
            self._parked_parts.record_outcome(each)
        for event in settle_whole_events(sent.span.batch, sent.settled) if sent.span.is_split else sent.settled:
            yield from self._parked_parts.settle_events(event)


@dataclass(slots=True, eq=False)
class SpanInFlight:
    """A span on its way, in one batch or several. The span is settled once all batches are."""

    span: Span
    left: int
    """Batches without an outcome."""
    settled: list[Settled] = field(default_factory=list)
    failed: Sequence[Failed] = ()
    """Events to park first."""

    def __post_init__(self) -> None:
        self.failed = self.span.failed


async def _wait_for_first(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until one of these tasks ends, then cancel the others."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def size_of_span(span: Span) -> int:
    """Return the bytes that the events of a span take in memory until they have their outcomes."""
    return (measure_memory(span.batch) if span.batch else 0) + measure_memory([each.event for each in span.failed])
