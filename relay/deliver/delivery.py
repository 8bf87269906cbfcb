"""Takes batches to a connector until every event has an outcome.

How it fails and recovers: an event stays here until it is delivered or parked, whatever the destination does. Only a
stop of the lane ends that earlier. Events with an outcome are then settled; the others go out after the next start.
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
from relay.deliver.park import Parking, find_keys
from relay.deliver.result import AttemptResult, judge
from relay.deliver.window import Window
from relay.guests import call_guest
from relay.store import State

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
        """`replay` is the number of a replay; None for the lane. `rate`: events per second of this way alone; 0 is no
        limit."""
        self.destination, self._replay = destination, replay
        self.admission = Admission(destination, window, rate)
        self.left = LeftBehind()
        """Threads that deliveries left behind when they were cut short. No delivery begins before they are back."""
        self.parking = Parking(destination, state, self.admission.sleep, replay)

    def make_order(self, limits: BatchSettings) -> Order | None:
        """Return what keeps events in order, for a lane that begins; None without an order to keep."""
        if not self.destination.keeps_order:
            return None
        return Order(partial(find_keys, self.destination.connector), limits, park=self.parking.parks_behind)

    async def finish(
        self, batch: Batch, settle: Callable[[Settled], None], cuts: Cuts | None = None, before: int = 0
    ) -> None:
        """Deliver or park every event of a batch, and call `settle` with events that have their outcome. The events
        were tried `before` times until they were parked. `cuts` remember which parts go out alone. Raises Stopped."""
        left, began, began_at = LeftBehind(), time.time(), time.monotonic()
        try:
            if cuts is not None:
                await cuts.await_saved()
            result = await self._attempt(batch, left, waited=False)
            if result.delivered == len(batch):  # nearly always
                return await self._settle(batch, result, settle, began, before)
            keys = partial(find_keys, self.destination.connector) if self.destination.keeps_order else None
            remainder = Remainder(batch, self.destination.settings.retry, began_at, keys, self.destination.random)
            part = remainder.take()
            while True:
                part.batch.let_go()
                following = self._record_result(remainder, part, result, cuts)
                if not result.split:
                    await self._settle(part.batch, result, settle, began, before)
                for parked, refused in following.parked:
                    await self._settle(parked, AttemptResult(refused=refused), settle, began, before)
                if not remainder:
                    return None
                await self._wait_for_retry(remainder, left)
                part = remainder.take()
                if cuts is not None:
                    if part.is_new:
                        cuts.add_batch(part.batch)
                    await cuts.await_saved()
                result = await self._attempt(part.batch, left, waited=part.alone)
        finally:
            if left:
                self.left.take(left)

    def _record_result(self, remainder: Remainder, part: Part, result: AttemptResult, cuts: Cuts | None) -> NextAttempt:
        """Record the result of an attempt; return what follows from it."""
        following = remainder.record(part, result, now := time.monotonic(), self.destination.health.proof)
        for batch, halves in following.halved:
            if cuts is not None:
                cuts.replace_with_parts(batch, halves)
        if not following.parked:
            self.destination.record_deferred(part.batch, result, max(0.0, remainder.due - now) if remainder else 0.0)
        if following.wait is not None:
            self.destination.hold_back(result, now + following.wait)
        return following

    async def _wait_for_retry(self, remainder: Remainder, left: LeftBehind) -> None:
        """Wait until a part of a batch is to be tried again. Make room for other batches, unless the part waits for the
        destination. Raises Stopped."""
        if (seconds := remainder.due - time.monotonic()) > 0:
            sleep = self.admission.sleep if remainder.waits_for_destination else self.admission.sleep_aside
            if await sleep(seconds):
                remainder.make_due()
        await left.back(self.admission.sleep)

    async def wait_for_threads(self, left: LeftBehind, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Wait until threads that were left behind are back. Status and log report the wait. Raises what `sleep`
        raises."""
        if not left:
            return
        await sleep(BACK_S)
        if left:
            self.destination.health.record_failure(HANGS, None)
        await left.back(sleep)
        self.destination.health.record_recovery()

    async def _settle(
        self, batch: Batch, result: AttemptResult, settle: Callable[[Settled], None], began: float, before: int
    ) -> None:
        if result.delivered == len(batch):
            self._settle_delivered(batch, settle)
        elif result.delivered:
            self._settle_delivered(batch.pick(result.find_delivered(len(batch))), settle)
        if result.skipped:
            settle(Settled(batch.pick(result.skipped), "filtered"))
        if result.refused:
            await self.parking.park_refused(batch, result, began)
            settle(Settled(batch.pick(result.refused_numbers), "parked"))
        self.destination.attempt_log.add(batch, result, self._replay or 0, before)

    def _settle_delivered(self, batch: Batch, settle: Callable[[Settled], None]) -> None:
        if self._replay is None:
            self.destination.metrics.count_delivered(batch)
        settle(Settled(batch, "delivered"))

    async def _attempt(self, batch: Batch, left: LeftBehind, *, waited: bool) -> AttemptResult:
        work = partial(self._try, batch, left, waited=waited)
        return await self.admission.attempt(0 if waited else len(batch), work)

    async def _try(self, batch: Batch, left: LeftBehind, *, waited: bool) -> AttemptResult:
        """Call deliver(); record and return the result, in whatever form the connector answers."""
        destination, began = self.destination, time.monotonic()
        destination.health.unanswered.append(began)
        try:
            with left.noted():
                work, whose = partial(destination.connector.deliver, batch), {"connector": destination.name}
                answer = await call_guest(work, "deliver", whose, destination.settings.timeout)
            result = judge(len(batch), answer, destination.redact)
        except asyncio.CancelledError:
            destination.breaker.record_no_result()
            raise
        except Exception as error:
            if left and isinstance(error, TimeoutError):
                error = Retry(HANGS)
            result = judge(len(batch), error, destination.redact, batch)
            if any(why.bug for why in result.deferred):
                destination.health.record_bug(result.deferred[0].reason, error, destination.redact)
        finally:
            destination.health.unanswered.remove(began)
        destination.record_attempt(batch, result, began)
        self.admission.correct_rates(batch, result, waited=waited)
        return result
