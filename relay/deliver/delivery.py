"""Takes batches to a connector until every event has an outcome.

How it fails and recovers: whatever the destination does, an event stays here until it is delivered or parked; only a
stop of the lane ends that earlier. What of a batch has its outcome by then is noted, the rest comes after the next
start.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import structlog

from relay.api import Batch, BatchSettings, Connector, ConnectorSettings
from relay.api.blocking import LeftBehind
from relay.config import Redaction
from relay.deliver.breaker import Breaker
from relay.deliver.cuts import Cuts
from relay.deliver.health import Health
from relay.deliver.meter import Meter
from relay.deliver.notes import Notes
from relay.deliver.order import Order
from relay.deliver.pace import Pace
from relay.deliver.parking import Parking, key_of
from relay.deliver.schedule import retry_delay
from relay.deliver.slots import Slots
from relay.deliver.verdict import Verdict, judge
from relay.guests import escaped, trace_of
from relay.journal import Counts, State

LOOK_S: Final = 0.05
"""How soon a delivery that waits for its pace sees that others have given back what they booked."""
BACK_S: Final = 0.1
"""How soon it is noticed that a thread is back."""
HANGS: Final = "not done in time, and the connector's thread hangs; nothing is tried again until it is back"
log = structlog.stdlib.get_logger()


class Stopped(Exception):
    """The lane was stopped before the batch had its outcome."""


class Settled(NamedTuple):
    """Events that have their outcome."""

    batch: Batch
    outcome: Literal["delivered", "filtered", "parked"]

    @property
    def counts(self) -> Counts:
        """The events, counted."""
        return Counts(**{self.outcome: len(self.batch)})


class Delivery:
    """The way to one destination: attempts, retries, pauses, splitting, parking."""

    def __init__(self, connector: Connector, settings: ConnectorSettings, state: State) -> None:
        self._connector, self._settings = connector, settings
        self.name = connector.name
        self.notes = Notes(connector.name)
        self._clean = Redaction(settings).clean
        self.health, self.breaker = Health(connector.name), Breaker()
        """Whether deliveries get through, and if not why; whether the destination is left alone."""
        self.meter = Meter()
        self._pace, self._own_pace = Pace(settings.rate), Pace(0)
        self._room = asyncio.Semaphore(settings.concurrency)
        self._slots = Slots(settings.concurrency)
        self._holders: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._replay: int | None = None
        self.parking = Parking(connector, settings, state, self.meter, self.sleep)

    def beside(self, replay: int, rate: float) -> "Delivery":
        """Another one to the same destination, for a replay: what the destination can bear is shared by both."""
        other = copy(self)
        vars(other).update(_stop=asyncio.Event(), _replay=replay, _own_pace=Pace(rate))
        other.parking = self.parking.beside(replay, other.sleep)
        return other

    async def begin(
        self, group: asyncio.TaskGroup, work: Callable[[], Coroutine[Any, Any, None]], what: str, events: int
    ) -> asyncio.Task[None]:
        """Start a task for so many events once fewer than `concurrency` are under way; its end makes room, so does a
        wait of its events alone."""
        await _wait_for(self._own_pace, events, asyncio.sleep)
        await self._room.acquire()
        task = group.create_task(work(), name=f"lane {self.name}: {what}")
        self._holders.add(task)
        task.add_done_callback(self._leave)
        return task

    def _leave(self, task: asyncio.Task[None]) -> None:
        if task in self._holders:
            self._holders.remove(task)
            self._room.release()

    def order(self, limits: BatchSettings) -> Order | None:
        """How events are kept in order, for a lane that begins; None if they need not be."""
        if not self._connector.keeps_order:
            return None
        return Order(partial(key_of, self._connector), limits, park=self.parking.keeps_behind)

    def stop(self) -> None:
        """Begin no further attempt; those under way may end."""
        self._stop.set()

    def go_on(self) -> None:
        """Attempts may begin again."""
        self._stop.clear()

    def try_now(self) -> None:
        """Have what waits to be tried again not wait any longer. A wait for the destination's pace goes on."""
        self.breaker.try_now()
        if not self._stop.is_set():
            self._stop.set()  # wakes who sleeps
            self._stop.clear()

    async def finish(
        self,
        batch: Batch,
        note: Callable[[Settled], None],
        cuts: Cuts | None = None,
        before: int = 0,
    ) -> None:
        """Deliver or park every event of the batch, which was tried so often before it was parked; call `note` for
        those that have their outcome. `cuts` are told which parts of it go out by themselves. Raises Stopped."""
        since, began, waited, left = time.monotonic(), time.time(), False, LeftBehind()
        while True:
            verdict = await self._attempt(batch, left, waited=waited)
            if verdict.split or verdict.again:
                batch.let_go()
            if verdict.split:
                return await self._split(batch, verdict, note, cuts, before)
            if self._gives_up(verdict, time.monotonic() - since):
                self.breaker.failed(time.monotonic(), at_once=False)
                verdict = verdict.given_up()
            await self._note(batch, verdict, note, began)
            self.notes.add(batch, verdict, self._replay or 0, before)
            if not verdict.again:
                return None
            waited = verdict.alone
            await (self._aside(verdict) if waited else self.sleep(self._delay(verdict, batch)))
            while left:
                await self.sleep(BACK_S)
            partly = len(verdict.again) < len(batch)
            attempt = batch.attempt + (not waited)
            batch = Batch((batch.pick(verdict.again) if partly else batch).blocks, attempt)
            if partly and cuts is not None:
                cuts.add_batch(batch)

    async def _note(self, batch: Batch, verdict: Verdict, note: Callable[[Settled], None], began: float) -> None:
        if verdict.delivered == len(batch):
            self._delivered(batch, note)
            return
        refused = [refusal.number for refusal in verdict.refused]
        if verdict.delivered:
            others = {*verdict.again, *verdict.skipped, *refused}
            numbers = [number for number in range(len(batch)) if number not in others]
            self._delivered(batch.pick(numbers), note)
        if verdict.skipped:
            note(Settled(batch.pick(verdict.skipped), "filtered"))
        if refused:
            await self.parking.refused(batch, verdict, began)
            note(Settled(batch.pick(refused), "parked"))

    def _delivered(self, batch: Batch, note: Callable[[Settled], None]) -> None:
        if self._replay is None:
            self.meter.delivered(batch)
        note(Settled(batch, "delivered"))

    def _gives_up(self, verdict: Verdict, seconds: float) -> bool:
        """Never for a destination that does not accept us at all: that is not the events' fault."""
        limit = self._settings.retry.give_up_after
        return bool(limit and verdict.again and not (verdict.pause or verdict.alone) and seconds >= limit)

    async def _split(
        self,
        batch: Batch,
        verdict: Verdict,
        note: Callable[[Settled], None],
        cuts: Cuts | None,
        before: int,
    ) -> None:
        """Find the refused event: each half for itself. log2(n) requests meet it, all others go through."""
        halves = batch.halves(by_size=verdict.too_large)
        if cuts is not None:
            cuts.part(batch, halves)
        for half in halves:
            await self.finish(half, note, cuts, before)

    async def _attempt(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        async with self._slots:
            await self._clearance(0 if waited else len(batch))
            return await self._try(batch, left, waited=waited)

    async def _try(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.timeout):
                with left.noted():
                    answer = await self._connector.deliver(batch)
            verdict = judge(len(batch), answer, self._clean)
        except BaseException as raised:
            error = escaped(raised)
            if not isinstance(error, Exception):
                self.breaker.given_up()
                raise
            verdict = judge(len(batch), error, self._clean)
            if left and isinstance(error, TimeoutError):
                verdict = replace(verdict, reason=HANGS)
            if verdict.bug:
                told = self._clean(trace_of(error))
                log.error("connector raised", connector=self.name, exception=told)
        took = time.perf_counter() - began
        self.meter.attempted(verdict, took)
        if verdict.answered:
            self.breaker.worked()
            self.health.worked()
            self._slots.answered(took)
        elif not verdict.again:  # the connector needed no answer
            self.breaker.given_up()
        self._correct_pace(batch, verdict, waited=waited)
        return verdict

    def _correct_pace(self, batch: Batch, verdict: Verdict, *, waited: bool) -> None:
        """What caused no request takes no share of the pace from others; events that wait alone pay when they go."""
        if verdict.delivered == len(batch) and not waited:  # nearly always
            return
        paid = 0 if waited else len(batch)
        sent = len(batch) - verdict.unsent - (len(verdict.again) if verdict.alone else 0)
        if sent > paid:
            self._pace.delay(sent - paid, time.monotonic())
        elif sent < paid:
            self._pace.give_back(paid - sent)
        if not verdict.split:
            self._own_pace.give_back(verdict.unsent)

    async def _clearance(self, events: int) -> None:
        """Wait for the pace, and for as long as the destination is to be left alone."""
        await _wait_for(self._pace, events, self.sleep)
        while (wait := self.breaker.wait(time.monotonic())) > 0:
            await self.sleep(wait)
        if self._stop.is_set():
            self.breaker.given_up()
            raise Stopped

    def _delay(self, verdict: Verdict, batch: Batch) -> float:
        first, longest = self._settings.retry.first, self._settings.retry.max
        delay = retry_delay(batch.attempt, first=first, longest=longest, after=verdict.after, chance=random.Random())
        self.breaker.failed(time.monotonic() + delay, at_once=verdict.after is not None or verdict.pause)
        self._slots.pushed_back()
        if verdict.pause:
            self.health.paused(verdict.reason, verdict.status, delay)
        else:
            again, wait = len(verdict.again), round(delay, 3)
            self.health.failed(verdict.reason, verdict.status, events=again, attempt=batch.attempt, next_try_s=wait)
        return delay

    async def _aside(self, verdict: Verdict) -> None:
        """Wait for what concerns these events alone, with room for others. Raises Stopped."""
        self.breaker.given_up()
        task = asyncio.current_task()
        held = task in self._holders
        if task is not None:
            self._leave(task)
        await self.sleep(self._settings.retry.first if verdict.after is None else verdict.after)
        if task is not None and held:
            await self._room.acquire()
            self._holders.add(task)

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until `try_now`. Raises Stopped as soon as the lane is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        if self._stop.is_set():
            raise Stopped


async def _wait_for(pace: Pace, events: int, sleep: Callable[[float], Awaitable[None]]) -> None:
    """Book so many events, and wait until they may go; sooner, if others give back meanwhile what they booked before.
    Raises what `sleep` raises."""
    if not (events and (wait := pace.delay(events, now := time.monotonic()))):
        return
    due = now + wait + pace.given_back
    while (wait := due - pace.given_back - time.monotonic()) > 0:
        await sleep(min(wait, LOOK_S))
