"""Takes batches to a connector until every event has an outcome.

How it fails and recovers: whatever the destination does, an event stays here until it is delivered or parked; only a
stop of the lane ends that earlier. What of a batch has its outcome by then is noted, the rest comes after the next
start.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from relay.api import Batch, BatchSettings, Retry
from relay.api.internal import BACK_S, LeftBehind
from relay.deliver.batch.ordering import Order
from relay.deliver.batch.parts import Settled
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.batch.split import NextAttempt, Part, Remainder
from relay.deliver.destination import SharedDestination
from relay.deliver.park import Parking, key_of, keys_of
from relay.deliver.rate_limit import RateLimit
from relay.deliver.result import Verdict, judge
from relay.guests import called, trace_of
from relay.state import State

LOOK_S: Final = 0.05
"""How soon a delivery that waits for its pace sees that others have given back what they booked."""
HANGS: Final = "not done in time, and the connector's thread hangs; nothing is tried again until it is back"


class Stopped(Exception):
    """The lane was stopped before the batch had its outcome."""


class Delivery:
    """One way to a destination: attempts, retries, splitting, parking. The lane has one, and so has each replay."""

    def __init__(
        self, destination: SharedDestination, state: State, *, replay: int | None = None, rate: float = 0.0
    ) -> None:
        """`replay` is its number; None for the lane. `rate`: events per second of this way alone, 0 for no limit."""
        self.destination, self._replay = destination, replay
        self._own_rate = RateLimit(rate)
        self._stop = asyncio.Event()
        self.left = LeftBehind()
        """What deliveries that were cut short have left behind: none begins before it is back."""
        self.parking = Parking(destination, state, self.sleep, replay)

    async def begin(
        self, group: asyncio.TaskGroup, work: Callable[[], Coroutine[Any, Any, None]], what: str, events: int
    ) -> asyncio.Task[None]:
        """Start a task for so many events once fewer than `concurrency` are under way; its end makes room, so does a
        wait of its events alone."""
        await _wait_for(self._own_rate, events, asyncio.sleep)
        return await self.destination.in_flight.start(group, work, f"lane {self.destination.name}: {what}")

    def order(self, limits: BatchSettings) -> Order | None:
        """How events are kept in order, for a lane that begins; None if they need not be."""
        if not self.destination.keeps_order:
            return None
        return Order(partial(key_of, self.destination.connector), limits, park=self.parking.keeps_behind)

    def stop(self) -> None:
        """Begin no further attempt; those under way may end."""
        self._stop.set()

    def go_on(self) -> None:
        """Attempts may begin again."""
        self._stop.clear()

    def try_now(self) -> None:
        """Have what waits to be tried again not wait any longer. A wait for the destination's pace goes on."""
        self.destination.breaker.try_now()
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
        keys = partial(keys_of, self.destination.connector) if self.destination.keeps_order else None
        remainder = Remainder(batch, self.destination.settings.retry, began_at, keys, self.destination.random)
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
        following = remainder.note(part, verdict, now := time.monotonic(), self.destination.health.proof)
        for batch, halves in following.halved:
            if cuts is not None:
                cuts.part(batch, halves)
        if not following.parked:
            self.destination.record_deferred(part.batch, verdict, max(0.0, remainder.due - now) if remainder else 0.0)
        if following.wait is not None:
            self.destination.hold_back(verdict, now + following.wait)
        return following

    async def _wait(self, remainder: Remainder, left: LeftBehind) -> None:
        """Wait until something of a batch is to be tried again; with room for other batches, if the destination is not
        what it waits for. Raises Stopped."""
        if (seconds := remainder.due - time.monotonic()) > 0:
            waits = self.sleep if remainder.needs_place else self._aside
            if await waits(seconds):
                remainder.hurry()
        await left.back(self.sleep)

    async def back(self, left: LeftBehind, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Wait until what was left behind is back; status and log say so. Raises what `sleep` raises."""
        if not left:
            return
        await sleep(BACK_S)
        if left:
            self.destination.health.failed(HANGS, None)
        await left.back(sleep)
        self.destination.health.mended()

    async def _note(
        self, batch: Batch, verdict: Verdict, note: Callable[[Settled], None], began: float, before: int
    ) -> None:
        if verdict.delivered == len(batch):
            self._delivered(batch, note)
        else:
            await self._note_partly(batch, verdict, note, began)
        self.destination.attempt_log.add(batch, verdict, self._replay or 0, before)

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
            self.destination.meter.delivered(batch)
        note(Settled(batch, "delivered"))

    async def _attempt(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        async with self.destination.concurrency_limit:
            await self._clearance(0 if waited else len(batch))
            return await self._try(batch, left, waited=waited)

    async def _try(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        began = time.monotonic()
        self.destination.health.unanswered.append(began)
        try:
            verdict = await self._answer(batch, left)
        finally:
            self.destination.health.unanswered.remove(began)
        self.destination.record_attempt(batch, verdict, began)
        self._correct_pace(batch, verdict, waited=waited)
        return verdict

    async def _answer(self, batch: Batch, left: LeftBehind) -> Verdict:
        """What the connector answers, in whatever way."""
        try:
            with left.noted():
                work, whose = partial(self.destination.connector.deliver, batch), {"connector": self.destination.name}
                answer = await called(work, "deliver", whose, self.destination.settings.timeout)
            verdict = judge(len(batch), answer, self.destination.redact)
        except asyncio.CancelledError:
            self.destination.breaker.given_up()
            raise
        except Exception as error:
            if left and isinstance(error, TimeoutError):
                error = Retry(HANGS)
            verdict = judge(len(batch), error, self.destination.redact, batch)
            if any(why.bug for why in verdict.deferred):
                self.destination.health.raised(verdict.deferred[0].reason, partial(self._trace, error))
        return verdict

    def _trace(self, error: Exception) -> str:
        return self.destination.redact(trace_of(error))

    def _correct_pace(self, batch: Batch, verdict: Verdict, *, waited: bool) -> None:
        """What caused no request takes no share of the pace from others; events that wait alone pay when they go."""
        if verdict.delivered == len(batch) and not waited:  # nearly always
            return
        paid = 0 if waited else len(batch)
        sent = len(batch) - verdict.unsent - sum(len(why.numbers) for why in verdict.deferred if why.alone)
        if sent > paid:
            self.destination.rate_limit.delay(sent - paid, time.monotonic())
        elif sent < paid:
            self.destination.rate_limit.give_back(paid - sent)
        if not verdict.split:
            self._own_rate.give_back(verdict.unsent)

    async def _clearance(self, events: int) -> None:
        """Wait for the pace, and for as long as the destination is to be left alone."""
        await _wait_for(self.destination.rate_limit, events, self.sleep)
        while (wait := self.destination.breaker.wait(time.monotonic())) > 0:
            await self.sleep(wait)
        if self._stop.is_set():
            self.destination.breaker.given_up()
            raise Stopped

    async def _aside(self, seconds: float) -> bool:
        """Wait with room for others; whether that was cut short. Raises Stopped."""
        self.destination.breaker.given_up()
        task = asyncio.current_task()
        if task is None or not self.destination.in_flight.leave(task):
            return await self.sleep(seconds)
        hurried = await self.sleep(seconds)
        await self.destination.in_flight.enter(task)
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


async def _wait_for(pace: RateLimit, events: int, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Book so many events, and wait until they may go; sooner, if others give back meanwhile what they booked before.
    Raises what `sleep` raises."""
    if not (events and (wait := pace.delay(events, now := time.monotonic()))):
        return
    due = now + wait + pace.given_back
    while (wait := due - pace.given_back - time.monotonic()) > 0:
        await sleep(min(wait, LOOK_S))
