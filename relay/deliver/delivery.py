"""Takes batches to a connector until every event has an outcome.

How it fails and recovers: whatever the destination does, an event stays here until it is delivered or parked; only a
stop of the lane ends that earlier. What of a batch has its outcome by then is noted, the rest comes after the next
start.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from relay.api import Batch, BatchSettings, Retry
from relay.api.internal import BACK_S, LeftBehind
from relay.deliver.admission import Admission
from relay.deliver.batch.ordering import Order
from relay.deliver.batch.parts import Settled
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.batch.split import NextAttempt, Part, Remainder
from relay.deliver.destination import SharedDestination
from relay.deliver.park import Parking, key_of, keys_of
from relay.deliver.result import Verdict, judge
from relay.deliver.window import Window
from relay.guests import called, trace_of
from relay.state import State

HANGS: Final = "not done in time, and the connector's thread hangs; nothing is tried again until it is back"


class Delivery:
    """One way to a destination: attempts, retries, splitting, parking. The lane has one, and so has each replay."""

    def __init__(
        self,
        destination: SharedDestination,
        window: Window,
        state: State,
        *,
        replay: int | None = None,
        rate: float = 0.0,
    ) -> None:
        """`replay` is its number; None for the lane. `rate`: events per second of this way alone, 0 for no limit."""
        self.destination, self._replay = destination, replay
        self.admission = Admission(destination, window, rate)
        self.left = LeftBehind()
        """What deliveries that were cut short have left behind: none begins before it is back."""
        self.parking = Parking(destination, state, self.admission.sleep, replay)

    def order(self, limits: BatchSettings) -> Order | None:
        """How events are kept in order, for a lane that begins; None if they need not be."""
        if not self.destination.keeps_order:
            return None
        return Order(partial(key_of, self.destination.connector), limits, park=self.parking.keeps_behind)

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
            sleep = self.admission.sleep if remainder.needs_place else self.admission.sleep_aside
            if await sleep(seconds):
                remainder.hurry()
        await left.back(self.admission.sleep)

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
        work = partial(self._try, batch, left, waited=waited)
        return await self.admission.attempt(0 if waited else len(batch), work)

    async def _try(self, batch: Batch, left: LeftBehind, *, waited: bool) -> Verdict:
        began = time.monotonic()
        self.destination.health.unanswered.append(began)
        try:
            verdict = await self._answer(batch, left)
        finally:
            self.destination.health.unanswered.remove(began)
        self.destination.record_attempt(batch, verdict, began)
        self.admission.correct_rates(batch, verdict, waited=waited)
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
