"""What runs one connector: cursor -> selection -> filters -> batch -> deliver -> ack.

How it fails and recovers:

- The journal is cut into spans. A span is settled when every event in it has an outcome; only settled spans move the
  cursor, in any order. A crash delivers again what was sent but not yet saved as settled: at most `window` events.
- A slow or dead destination holds `concurrency` batches in memory and reads no further: its backlog is on disk.
- Parked events that an admin wants replayed take a slot like any batch. They stay parked until the cursor that counts
  them as delivered is saved: a crash before that delivers them once more.
- An error that is not the destination's (a damaged segment, a bug) stops this lane alone; it starts again from its
  cursor after RESTART_S, for as long as it takes.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from relay.api import Connector, ConnectorSettings
from relay.deliver.collect import Collector
from relay.deliver.delivery import Delivery, Settled, Stopped
from relay.deliver.forming import Span
from relay.deliver.replay import prepare
from relay.journal import Counts, Cursor, Journal, Parked, State
from relay.route import Failed, Route

RESTART_S: Final = 10.0
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What of a lane is to be saved, all or nothing."""

    cursor: Cursor
    replayed: Sequence[Parked]
    """Parked events that have an outcome now: the cursor counts them."""
    events: int
    """How many events will not be sent again once this is saved."""


class Lane:
    """One connector's way through the journal."""

    def __init__(
        self,
        connector: Connector,
        settings: ConnectorSettings,
        route: Route,
        cursor: Cursor,
        *,
        journal: Journal,
        state: State,
        save_soon: Callable[[], None],
    ) -> None:
        self.name = connector.name
        self.connector = connector
        self.cursor = cursor
        self._settings, self._route, self._journal, self._state = settings, route, journal, state
        self._save_soon = save_soon
        self._delivery = Delivery(connector, settings, state)
        self._stop = asyncio.Event()
        self._moved = asyncio.Event()
        self._exposed = 0
        """Events sent, or on their way, that would be sent again after a crash."""
        self._unsaved = 0
        """Those of them that are settled and only wait for the cursor to be saved."""
        self._look = asyncio.Event()
        """There may be parked events to replay."""
        self._replayed: list[Parked] = []
        """Those that were, and only wait for the cursor to be saved."""

    async def run(self) -> None:
        """Deliver until stopped; end when the deliveries under way have ended."""
        while not self._stop.is_set():
            try:
                await self._run()
            except Exception as error:
                log.error("lane failed, starts again", connector=self.name, in_s=RESTART_S, exc_info=error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTART_S):
                        await self._stop.wait()

    async def _run(self) -> None:
        self._exposed = self._unsaved
        self._look.set()
        slots = asyncio.Semaphore(self._settings.concurrency)
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(self._collect(group, slots), name=f"lane {self.name}: collect")
            replaying = group.create_task(self._replay_marked(group, slots), name=f"lane {self.name}: replay")
            await self._stop.wait()
            collecting.cancel()
            replaying.cancel()

    def stop(self) -> None:
        """Begin nothing new."""
        self._stop.set()
        self._delivery.stop()

    def look_for_parked(self) -> None:
        """There may be parked events to replay."""
        self._look.set()

    def snapshot(self) -> Snapshot:
        """What is to be saved; hand it to `saved` once it is."""
        return Snapshot(self.cursor.copy(), tuple(self._replayed), self._unsaved)

    def saved(self, snapshot: Snapshot) -> None:
        """A snapshot is on disk: its events will not be sent again."""
        self._unsaved -= snapshot.events
        self._exposed -= snapshot.events
        del self._replayed[: len(snapshot.replayed)]
        self._moved.set()

    async def _collect(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore) -> None:
        collector = Collector(self._journal, self.cursor, self._route, self._settings.batch)
        try:
            while True:
                span = await collector.next()
                if span.batch is None and not span.failed:
                    self._settle_at_once(span)
                    continue
                await slots.acquire()
                await self._keep_within_window(len(span))
                group.create_task(self._deliver(span, slots), name=f"lane {self.name}: deliver")
        finally:
            collector.close()

    def _settle_at_once(self, span: Span) -> None:
        if expired := span.counts.expired:
            why = "they had to leave the journal before they were delivered"
            log.error("events expired", connector=self.name, events=expired, offset=span.start, reason=why)
        self.cursor.settle(span.start, span.stop, span.counts)

    async def _keep_within_window(self, events: int) -> None:
        """Wait until so many events more can be sent without more than `window` being sent again after a crash."""
        while self._exposed and self._exposed + events > self._settings.window:
            self._moved.clear()
            if self._unsaved:
                self._save_soon()
            await self._moved.wait()
        self._exposed += events

    async def _deliver(self, span: Span, slots: asyncio.Semaphore) -> None:
        counts, settled = span.counts, list[Settled]()
        try:
            if span.failed:
                await self._delivery.park([self._parked(failed) for failed in span.failed])
                counts += Counts(parked=len(span.failed))
            if span.batch is not None:
                await self._delivery.finish(span.batch, settled)
        except Stopped:
            return self._settle_partly(settled)
        except asyncio.CancelledError:
            self._settle_partly(settled)
            raise
        finally:
            slots.release()
        self.cursor.settle(span.start, span.stop, sum((each.counts for each in settled), counts))
        self._unsaved += len(span)
        self._moved.set()
        return None

    def _settle_partly(self, settled: Sequence[Settled]) -> None:
        """The span is cut short: keep what of it has an outcome, so that it is not sent again."""
        for each in settled:
            for offset in each.offsets():
                self.cursor.settle(offset, offset + 1, Counts(**{each.outcome: 1}))
            self._unsaved += len(each.batch)

    async def _replay_marked(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore) -> None:
        """Deliver the parked events that are to be replayed, batch after batch, each time there may be some."""
        limits = self._settings.batch
        while True:
            await self._look.wait()
            self._look.clear()
            while marked := await self._marked(limits.events, limits.size):
                await slots.acquire()
                await self._keep_within_window(len(marked))
                delivering = self._deliver_again(marked, slots)
                task = group.create_task(delivering, name=f"lane {self.name}: deliver again")
                await asyncio.wait([task])  # it goes on when this is cancelled

    async def _marked(self, events: int, size: int) -> list[Parked]:
        """Parked events to replay, once those before them are off the list."""
        while self._replayed:
            self._moved.clear()
            self._save_soon()
            await self._moved.wait()
        return await self._state.marked(self.name, events, size)

    async def _deliver_again(self, marked: Sequence[Parked], slots: asyncio.Semaphore) -> None:
        replay, settled = prepare(marked, self._route), list[Settled]()
        counts = replay.counts
        try:
            if replay.failed:
                await self._delivery.park([self._parked(failed, attempts=1) for failed in replay.failed])
            if replay.batch is not None:
                await self._delivery.finish(replay.batch, settled)
                counts += Counts(delivered=sum(each.counts.delivered for each in settled))
        except Stopped:
            return
        finally:
            slots.release()
        self.cursor.counts += counts + Counts(parked=-counts.total)
        self._replayed += marked
        self._unsaved += len(marked)
        self._moved.set()
        log.info(
            "parked events replayed", connector=self.name, events=len(marked), parked_again=len(marked) - counts.total
        )

    def _parked(self, failed: Failed, attempts: int = 0) -> Parked:
        event = failed.event
        log.warning("event parked: a filter failed", connector=self.name, offset=event.offset, reason=failed.reason)
        return Parked.of(event, self.name, "filter", failed.reason, attempts)
