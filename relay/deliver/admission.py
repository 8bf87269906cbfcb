"""Admission: the seven gates before an attempt, in this order.

1. **Window**, one for each lane or replay. It holds back what would exceed `window` events without a checkpoint, or
   `memory` bytes without an outcome. Outcomes and checkpoints open it.
2. **Order**, only with an order to keep. It holds back an event behind earlier events of the same key. Their outcomes
   open it.
3. **Own rate** of a replay. Time opens it.
4. **In flight**, one for each destination, as are all that follow. It holds back what would exceed `concurrency`
   batches. The outcome of a batch opens it, and so does a batch whose events wait for themselves alone.
5. **Concurrency limit**: as many attempts as the destination keeps up with. The end of an attempt opens it.
6. **Rate limit**: `rate`. Time opens it, and so does a share of the rate that others give back.
7. **Breaker**. It holds back everything while the destination is down or an admin pauses the connector. Time or an
   admin opens it for one attempt, and the success of that attempt opens it for all.

Why in this order: gates of one lane come before gates that lanes share, so that nothing takes a place from others while
it waits for its own lane. What waits at gates 1 to 4 has no task yet, so few tasks wait. Gate 6 follows 5: an attempt
books its share of the rate when it is about to go. Gate 7 is the last: what the breaker lets through goes at once, and
all others wait for its result.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from relay.api import Batch
from relay.deliver.destination import SharedDestination
from relay.deliver.rate_limit import RateLimit
from relay.deliver.result import AttemptResult
from relay.deliver.window import Window

LOOK_S: Final = 0.05
"""How often a wait for a rate looks for shares that others have given back, in seconds."""


class Stopped(Exception):
    """The lane was stopped before the batch had its outcome."""


class Admission:
    """Lets the batches of one lane or replay through the gates."""

    def __init__(self, destination: SharedDestination, window: Window, rate: float = 0.0) -> None:
        """`rate`: events per second of this lane or replay alone; 0 is no limit."""
        self._destination, self.window = destination, window
        self._own_rate = RateLimit(rate)
        self._stop = asyncio.Event()

    async def admit(self, events: int, size: int) -> None:
        """Wait at gate 1 for so many events that take `size` bytes in memory."""
        await self.window.admit(events, size)

    # Gate 2 is `OrderedDelivery`.

    async def start(
        self, group: asyncio.TaskGroup, work: Callable[[], Coroutine[Any, Any, None]], what: str, events: int
    ) -> asyncio.Task[None]:
        """Wait at the gates 3 and 4, then start a task that delivers so many events."""
        await _wait_for(self._own_rate, events, asyncio.sleep)  # gate 3
        return await self._destination.in_flight.start(group, work, f"lane {self._destination.name}: {what}")  # gate 4

    async def attempt(self, events: int, work: Callable[[], Awaitable[AttemptResult]]) -> AttemptResult:
        """Wait at the gates 5 to 7, then do an attempt that takes the share of so many events of the rate. Raises
        Stopped."""
        destination = self._destination
        async with destination.concurrency_limit:  # gate 5
            await _wait_for(destination.rate_limit, events, self.sleep)  # gate 6
            while (wait := destination.breaker.admit(time.monotonic())) > 0:  # gate 7
                await self.sleep(wait)
            if self._stop.is_set():
                destination.breaker.record_no_result()
                raise Stopped
            return await work()

    def correct_rates(self, batch: Batch, result: AttemptResult, *, waited: bool) -> None:
        """Give back the shares of events that caused no request. Book the shares of events that have `waited` for
        themselves alone and were sent."""
        if result.delivered == len(batch) and not waited:  # nearly always
            return
        paid = 0 if waited else len(batch)
        sent = len(batch) - result.unsent - sum(len(why.numbers) for why in result.deferred if why.alone)
        if sent > paid:
            self._destination.rate_limit.book(sent - paid, time.monotonic())
        elif sent < paid:
            self._destination.rate_limit.give_back(paid - sent)
        if not result.split:
            self._own_rate.give_back(result.unsent)

    def stop(self) -> None:
        """Begin no further attempt; attempts under way may end."""
        self._stop.set()

    def go_on(self) -> None:
        """Allow attempts again after `stop`."""
        self._stop.clear()

    def try_now(self) -> None:
        """End every wait for the next attempt, and open the breaker for one attempt. Waits for a rate go on."""
        self._destination.breaker.try_now()
        if not self._stop.is_set():
            self._stop.set()  # wakes all that sleep
            self._stop.clear()

    async def sleep(self, seconds: float) -> bool:
        """Wait so long, or until `try_now`; return whether `try_now` ended the wait. Raises Stopped as soon as the lane
        is stopped."""
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

    async def sleep_aside(self, seconds: float) -> bool:
        """Do the same as `sleep`, with room in flight for another batch meanwhile."""
        self._destination.breaker.record_no_result()
        task = asyncio.current_task()
        if task is None or not self._destination.in_flight.leave(task):
            return await self.sleep(seconds)
        hurried = await self.sleep(seconds)
        await self._destination.in_flight.enter(task)
        return hurried


async def _wait_for(rate: RateLimit, events: int, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Book the shares of so many events, and wait until the events may go. Raises what `sleep` raises."""
    if not (events and (wait := rate.book(events, now := time.monotonic()))):
        return
    due = now + wait + rate.given_back
    while (wait := due - rate.given_back - time.monotonic()) > 0:
        await sleep(min(wait, LOOK_S))
