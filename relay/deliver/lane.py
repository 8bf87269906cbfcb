"""What runs one connector: cursor -> selection -> filters -> batch -> deliver -> ack.

How it fails and recovers:

- The journal is cut into spans. A span is settled when every event in it has an outcome; only settled spans move the
  cursor, in any order. A crash delivers again what was sent but not yet saved as settled: at most `window` events.
- A lane begins once its connector is open: until then, however long that takes, its backlog is on disk.
- A slow or dead destination holds `concurrency` batches in memory and reads no further: its backlog is on disk.
- What cannot be read in the journal is passed over, and counts as damaged; what has left it, as expired.
- An error that is not the destination's (a disk that refuses to be read, a bug) stops this lane alone; it starts again
  from its cursor after RESTART_S, for as long as it takes.
- When events are erased the lane is put to rest: what it has in memory is forgotten, and read again from its cursor.
- A thread that is left behind by what was cut short is waited for before the lane begins again.
- Whenever it begins, what was under way before goes out first, cut as it was (`cuts`), so that its keys are the same.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from relay.api import Batch, BatchSettings, Block
from relay.catalogue import Selection
from relay.deliver.admission import Stopped
from relay.deliver.batch.builder import Span
from relay.deliver.batch.groups import divided
from relay.deliver.batch.parked_parts import ParkedParts
from relay.deliver.batch.parts import Settled, SplitEvent, whole, within
from relay.deliver.batch.reader import Collector
from relay.deliver.batch.sent_together import ENDLESS, Cuts, resume, settled_in
from relay.deliver.delivery import Delivery
from relay.deliver.ordered_delivery import Ordered
from relay.deliver.window import size_of
from relay.guests import named, trace_of
from relay.journal import Journal
from relay.route import Failed, Route
from relay.state import Attempts, Counts, Cursor, Parked

RESTART_S: Final = 10.0
REST_S: Final = 5.0
"""How long attempts under way may go on when the lane is put to rest; what they had to say is then not waited for."""
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What of a lane is to be saved, all or nothing."""

    cursor: Cursor
    events: int
    """How many events will not be sent again once this is saved."""
    delivered_again: Sequence[Parked] = ()
    """Parked events that have an outcome now: the cursor counts them."""
    retaken: Sequence[Parked] = ()
    """The same of those that were not settled before a restart."""
    attempts: Sequence[Attempts] = ()
    """At this destination, by the lane and by replays beside it."""


class Lane:
    """One connector's way through the journal; the lane of a replay ends where that ends."""

    def __init__(
        self,
        delivery: Delivery,
        limits: BatchSettings,
        route: Route,
        cursor: Cursor,
        *,
        journal: Journal,
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
        """The offset that it ends at."""
        self._ordered: Ordered | None = None
        self._parked_parts = ParkedParts(self.look_for_parked)
        self.taps: set[Callable[[Block], object]] = set()
        """Called with each block that is on its way to the connector, after the filters; they must be quick."""
        self._fault = "", -1
        self._under_way: set[Sent] = set()
        self._saved = cursor.copy()

    def try_destination(self) -> None:
        """Have what waits for the destination be tried again at once."""
        self._admission.try_now()

    @property
    def fault(self) -> str:
        """Why the lane failed where it stands now, in a way that is not the destination's; "" if it did not."""
        what, position = self._fault
        return what if position == self.cursor.position else ""

    @property
    def ended(self) -> bool:
        """Whether it has come to its end."""
        return self.cursor.position >= self.until

    @property
    def stops(self) -> bool:
        """Whether it is to begin nothing new."""
        return self._stop.is_set()

    @property
    def selection(self) -> Selection:
        """What it wants."""
        return self._route.selection

    async def run(self) -> None:
        """Deliver until stopped or at the end; return when the deliveries under way have ended."""
        if not await self._is_ready():
            return
        while not self._stop.is_set() and not self.ended:
            if not await self._is_clear():
                continue
            try:
                async with self._awake:
                    await self._run()
            except Exception as error:
                self._fault = named(error), self.cursor.position
                log.error("lane failed, starts again", connector=self.name, in_s=RESTART_S, exception=trace_of(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTART_S):
                        await self._stop.wait()

    async def _is_clear(self) -> bool:
        """Whether no thread is left of what was cut short, once none is. False after a rest, or if the lane is to
        stop."""
        try:
            await self._delivery.back(self._delivery.left, self._admission.sleep)
        except Stopped:
            async with self._awake:  # until the rest is over
                return False
        return True

    async def _is_ready(self) -> bool:
        """Whether the connector is open, once it is or the lane is to stop."""
        async with asyncio.TaskGroup() as group:
            ready = group.create_task(self._ready(), name=f"lane {self.name}: connector is open")
            stopped = group.create_task(self._stop.wait(), name=f"lane {self.name}: stop")
            await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
            is_ready = ready.done()
            for task in (ready, stopped):
                task.cancel()
        return is_ready

    async def _run(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as self._patience:
                await self._begin()
                await self._run_tasks()

    async def _run_tasks(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                work = self._work(group)
                halted = group.create_task(self._halt.wait(), name=f"lane {self.name}: halt")
                await asyncio.wait([*work, halted], return_when=asyncio.FIRST_COMPLETED)
                for task in (*work, halted):
                    task.cancel()
        finally:
            self._settle_partly()

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Inside nothing is under way, and the lane has no event in memory; after that it goes on from its cursor."""
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

    async def _begin(self) -> None:
        """Nothing is on its way."""
        await self._cuts.open()
        self._window.begin()
        if order := self._delivery.order(self._limits):
            self._ordered = Ordered(
                order, self._delivery, self.cursor, self._cuts, self._parked_parts, self.look_for_parked
            )

    def _work(self, group: asyncio.TaskGroup) -> Sequence[asyncio.Task[None]]:
        tasks = [group.create_task(self._collect(group), name=f"lane {self.name}: collect")]
        if self._ordered:
            tasks.append(group.create_task(self._ordered.run(group), name=f"lane {self.name}: send what waited"))
        return tasks

    def look_for_parked(self) -> None:
        """There may be parked events to deliver again: that is for the live lane."""

    def stop(self) -> None:
        """Begin nothing new."""
        self._stop.set()
        self._halt.set()
        self._admission.stop()

    def snapshot(self) -> Snapshot:
        """What is to be saved; hand it to `saved` once it is."""
        return Snapshot(self.cursor.copy(), self._window.unsaved)

    def saved(self, snapshot: Snapshot) -> None:
        """A snapshot is on disk: its events will not be sent again."""
        self._window.saved(snapshot.events)
        self._saved = snapshot.cursor
        self._cuts.forget(settled_in(snapshot.cursor))

    def close(self) -> None:
        """Let go of its files, once it has ended."""
        self._cuts.close(settled_in(self._saved))

    async def _collect(self, group: asyncio.TaskGroup) -> None:
        cuts = resume(self._cuts.all, self.cursor, min(self._journal.head, self.until))
        collector = Collector(self._journal, self.cursor, self._route, self._limits, self.until, cuts)
        try:
            while (found := await collector.next()) is not None:
                span = self._parked_parts.counted(found)
                if span.batch is None and not span.failed:
                    self._settle_at_once(span)
                    continue
                await self._admission.admit(len(span), size_of_span(span))
                await self._send(group, span)
        finally:
            collector.close()

    async def _send(self, group: asyncio.TaskGroup, span: Span) -> None:
        batch = span.batch
        if self.taps and batch is not None:
            self._tap(batch)
        if self._ordered is not None:
            await self._ordered.send(group, span)
            return
        if batch is not None and not span.is_cut:
            remember = self._cuts.add_batch if span.ranges else self._cuts.add_stretch
            remember(batch)
        batches = (Batch(()),) if batch is None else divided(batch, self._limits.group_by)
        if span.is_split:  # the parts of one event may be more than goes at a time
            batches = [one for group in batches for one in within(group, self._limits)]
        sent = Sent(span, len(batches))
        self._under_way.add(sent)
        for one in batches:
            await self._admission.start(group, partial(self._deliver, sent, one), "deliver", len(one))

    def _tap(self, batch: Batch) -> None:
        for tap in self.taps:
            for block in batch.blocks:
                tap(block)

    def _settle_at_once(self, span: Span) -> None:
        if expired := span.counts.expired:
            why = "they had to leave the journal before they were delivered"
            log.error("events expired", connector=self.name, events=expired, offset=span.start, reason=why)
        if damaged := span.counts.damaged:
            told = {"connector": self.name, "events": damaged, "offset": span.start, "up_to_offset": span.stop}
            told |= {"replay": True} if self.until < ENDLESS else {}
            log.error("events are damaged", **told, reason="they could not be read when their turn came")
        self._settle(span, span.counts)
        if self.cursor.position >= self._journal.head and self.destination.in_flight.is_idle:
            self.destination.health.mended()  # what failed is gone: erased, expired or damaged

    def _settle(self, span: Span, counts: Counts) -> None:
        if span.ranges:
            self.cursor.settle_ranges(span.ranges, counts)
        else:
            self.cursor.settle(span.start, span.stop, counts)

    async def _deliver(self, sent: "Sent", batch: Batch) -> None:
        try:
            failed, sent.failed = sent.failed, ()
            await self._delivery.parking.failed(failed)
            if batch.blocks:
                await self._delivery.finish(batch, sent.settled.append, self._cuts)
        except Stopped:
            return
        sent.left -= 1
        if not sent.left:
            self._end(sent)

    def _end(self, sent: "Sent") -> None:
        """All of a span is settled."""
        span = sent.span
        counts = span.counts + Counts(parked=len(span.failed))
        self._settle(span, sum((each.counts for each in self._ended(sent)), counts))
        self._window.settled(len(span), size_of_span(span))
        self._under_way.discard(sent)

    def _ended(self, sent: "Sent") -> Iterator[Settled | SplitEvent]:
        """Those events of a span of which every part has its outcome."""
        for each in sent.settled:
            self._parked_parts.tried(each)
        for event in whole(sent.span.batch, sent.settled) if sent.span.is_split else sent.settled:
            yield from self._parked_parts.ended(event)

    def _settle_partly(self) -> None:
        """What was under way is cut short: keep what has an outcome, so that it is not sent again."""
        for each in [each for sent in self._under_way for each in self._ended(sent)]:
            self.cursor.settle_each(each.offsets, each.counts)
            self._window.settled(len(each.offsets), 0)  # the lane stops: nothing is waited for
        self._under_way.clear()


@dataclass(slots=True, eq=False)
class Sent:
    """A span on its way, in one batch or in several; it is settled once all are."""

    span: Span
    left: int
    """Batches that have not ended."""
    settled: list[Settled] = field(default_factory=list)
    failed: Sequence[Failed] = ()
    """Events that are to be parked first."""

    def __post_init__(self) -> None:
        self.failed = self.span.failed


def size_of_span(span: Span) -> int:
    """Bytes that the events of a span take in memory until they have their outcomes."""
    return (size_of(span.batch) if span.batch else 0) + size_of([each.event for each in span.failed])
