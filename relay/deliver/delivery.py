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
from functools import partial
from typing import Any, Final

from relay.api import Batch, BatchSettings, Connector, ConnectorSettings, Retry
from relay.api.internal import BACK_S, LeftBehind
from relay.config import Redaction
from relay.deliver.attempts import AttemptLog, Meter
from relay.deliver.batch.ordering import Order
from relay.deliver.batch.parts import Settled
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.batch.split import NextAttempt, Part, Remainder
from relay.deliver.concurrency import Slots
from relay.deliver.health import Health
from relay.deliver.park import Parking, key_of, keys_of
from relay.deliver.rate_limit import RateLimit
from relay.deliver.result import Verdict, judge
from relay.deliver.retry import Breaker
from relay.guests import called, trace_of
from relay.state import State

LOOK_S: Final = 0.05
"""How soon a delivery that waits for its pace sees that others have given back what they booked."""
ID_CHARS: Final = 200
"""Of an id of an event that is told."""
HANGS: Final = "not done in time, and the connector's thread hangs; nothing is tried again until it is back"


class Stopped(Exception):
    """The lane was stopped before the batch had its outcome."""


class Delivery:
    """The way to one destination: attempts, retries, pauses, splitting, parking."""

    def __init__(self, connector: Connector, settings: ConnectorSettings, state: State, *, keeps_order: bool) -> None:
        self._connector, self._settings, self._keeps_order = connector, settings, keeps_order
        self.name = connector.name
        self.notes = AttemptLog(connector.name)
        self._clean = Redaction(settings).clean
        self.health, self.breaker = Health(connector.name), Breaker()
        """Whether deliveries get through, and if not why; whether the destination is left alone."""
        self.meter = Meter()
        self._pace, self._own_pace = RateLimit(settings.rate), RateLimit(0)
        self._room = asyncio.Semaphore(settings.concurrency)
        self._slots = Slots(settings.concurrency)
        self._chance = random.Random()
        self._holders: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self.left = LeftBehind()
        """What deliveries that were cut short have left behind: none begins before it is back."""
        self._replay: int | None = None
        keeps_behind = keeps_order and settings.after_parked == "park"
        self.parking = Parking(connector, state, self.meter, self.sleep, keeps_behind=keeps_behind)

    def beside(self, replay: int, rate: float) -> "Delivery":
        """Another one to the same destination, for a replay: what the destination can bear is shared by both."""
        other = copy(self)
        vars(other).update(_stop=asyncio.Event(), left=LeftBehind(), _replay=replay, _own_pace=RateLimit(rate))
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
        if not self._keeps_order:
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
        left = LeftBehind()
        try:
            await self._finish(batch, note, cuts, before, left)
        finally:
            if left:
                self.left.take(left)

    async def _finish(
        self, batch: Batch, note: Callable[[Settled], None], cuts: Cuts | None, before: int, left: LeftBehind
    ) -> None:
        began, began_at = time.time(), time.monotonic()
        verdict = await self._attempt(batch, left, waited=False)
        if verdict.delivered == len(batch):  # nearly always
            return await self._note(batch, verdict, note, began, before)
        keys = partial(keys_of, self._connector) if self._keeps_order else None
        remainder = Remainder(batch, self._settings.retry, began_at, keys, self._chance)
        part = remainder.take()
        while True:
            part.batch.let_go()
            following = self._follow(remainder, part, verdict, cuts)
            if not verdict.split:
                await self._note(part.batch, verdict, note, began, before)
            for parked, refused in following.parked:
                await self._note(parked, Verdict(refused=refused), note, began, before)
            if not remainder:
                return None
            await self._wait(remainder, left)
            part = remainder.take()
            if part.is_new and cuts is not None:
                cuts.add_batch(part.batch)
            verdict = await self._attempt(part.batch, left, waited=part.alone)

    def _follow(self, remainder: Remainder, part: Part, verdict: Verdict, cuts: Cuts | None) -> NextAttempt:
        """What follows from an attempt, told to all who have to know."""
        following = remainder.note(part, verdict, now := time.monotonic(), self.health.proof)
        for batch, halves in following.halved:
            if cuts is not None:
                cuts.part(batch, halves)
        if not following.parked:
            self._tell(part.batch, verdict, max(0.0, remainder.due - now) if remainder else 0.0)
        if following.wait is not None:
            asked = any(why.unauthorized or (why.after is not None and not why.alone) for why in verdict.deferred)
            self.breaker.failed(now + following.wait, at_once=asked)
            self._slots.pushed_back()
        return following

    async def _wait(self, remainder: Remainder, left: LeftBehind) -> None:
        """Wait until something of a batch is to be tried again; with room for other batches, if the destination is not
        what it waits for. Raises Stopped."""
        if (seconds := remainder.due - time.monotonic()) > 0:
            waits = self.sleep if remainder.needs_place else self._aside
            if await waits(seconds):
                remainder.hurry()
        await left.back(self.sleep)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way that may fail as a whole, here or in what is `beside`."""
        return not self._holders

    async def back(self, left: LeftBehind, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Wait until what was left behind is back; status and log say so. Raises what `sleep` raises."""
        if not left:
            return
        await sleep(BACK_S)
        if left:
            self.health.failed(HANGS, None)
        await left.back(sleep)
        self.health.mended()

    async def _note(
        self, batch: Batch, verdict: Verdict, note: Callable[[Settled], None], began: float, before: int
    ) -> None:
        if verdict.delivered == len(batch):
            self._delivered(batch, note)
        else:
            await self._note_partly(batch, verdict, note, began)
        self.notes.add(batch, verdict, self._replay or 0, before)

    async def _note_partly(self, batch: Batch, verdict: Verdict, note: Callable[[Settled], None], began: float) -> None:
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

    async def _attempt(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        async with self._slots:
            await self._clearance(0 if waited else len(batch))
            return await self._try(batch, left, waited=waited)

    async def _try(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        began = time.monotonic()
        self.health.unanswered.append(began)
        try:
            verdict = await self._answer(batch, left)
        finally:
            self.health.unanswered.remove(began)
        took = time.monotonic() - began
        self.meter.attempted(verdict, took)
        if verdict.delivered:
            self.health.delivered()
        elif verdict.refused and not verdict.split:
            self.health.event = _type_and_id(batch, verdict.refused[-1].number)
            self.health.refused(verdict.refused[-1].reason, verdict.refused[-1].status)
        if verdict.answered:
            self.breaker.worked()
            self.health.worked(began)
            self._slots.answered(took)
        elif any(why.bug for why in verdict.deferred):
            self.breaker.stumbled()
        elif all(why.alone for why in verdict.deferred):  # the connector needed no answer, or got none
            self.breaker.given_up()
        self._correct_pace(batch, verdict, waited=waited)
        return verdict

    async def _answer(self, batch: Batch, left: LeftBehind) -> Verdict:
        """What the connector answers, in whatever way."""
        try:
            with left.noted():
                work, whose = partial(self._connector.deliver, batch), {"connector": self.name}
                answer = await called(work, "deliver", whose, self._settings.timeout)
            verdict = judge(len(batch), answer, self._clean)
        except asyncio.CancelledError:
            self.breaker.given_up()
            raise
        except Exception as error:
            if left and isinstance(error, TimeoutError):
                error = Retry(HANGS)
            verdict = judge(len(batch), error, self._clean, batch)
            if any(why.bug for why in verdict.deferred):
                self.health.raised(verdict.deferred[0].reason, partial(self._trace, error))
        return verdict

    def _trace(self, error: Exception) -> str:
        return self._clean(trace_of(error))

    def _correct_pace(self, batch: Batch, verdict: Verdict, *, waited: bool) -> None:
        """What caused no request takes no share of the pace from others; events that wait alone pay when they go."""
        if verdict.delivered == len(batch) and not waited:  # nearly always
            return
        paid = 0 if waited else len(batch)
        sent = len(batch) - verdict.unsent - sum(len(why.numbers) for why in verdict.deferred if why.alone)
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

    def _tell(self, batch: Batch, verdict: Verdict, wait: float) -> None:
        """Tell of events that come again, the first of them after so many seconds."""
        for why in verdict.deferred:
            if not why.alone or why.unauthorized:
                self.health.event = _type_and_id(batch, why.numbers[0])
            if why.unauthorized:
                self.health.unauthorized(why.reason, why.status, wait)
            elif not why.alone:
                told = {"events": len(why.numbers), "attempt": batch.attempt, "next_try_s": round(wait, 3)}
                self.health.failed(why.reason, why.status, **told)

    async def _aside(self, seconds: float) -> bool:
        """Wait with room for others; whether that was cut short. Raises Stopped."""
        self.breaker.given_up()
        task = asyncio.current_task()
        held = task in self._holders
        if task is not None:
            self._leave(task)
        hurried = await self.sleep(seconds)
        if task is not None and held:
            await self._room.acquire()
            self._holders.add(task)
        return hurried

    async def sleep(self, seconds: float) -> bool:
        """Wait so long, or until `try_now`; whether that was so. Raises Stopped as soon as the lane is stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            hurried = False
        else:
            hurried = True
        if self._stop.is_set():
            raise Stopped
        return hurried


def _type_and_id(batch: Batch, number: int) -> tuple[str, str]:
    """What an event is called, for people who look for one that was not delivered."""
    (event,) = batch.pick([number])
    with suppress(ValueError, LookupError):
        return event.type, event.id[:ID_CHARS]
    return event.type, ""


async def _wait_for(pace: RateLimit, events: int, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Book so many events, and wait until they may go; sooner, if others give back meanwhile what they booked before.
    Raises what `sleep` raises."""
    if not (events and (wait := pace.delay(events, now := time.monotonic()))):
        return
    due = now + wait + pace.given_back
    while (wait := due - pace.given_back - time.monotonic()) > 0:
        await sleep(min(wait, LOOK_S))
