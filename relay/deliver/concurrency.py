"""Concurrency of one connector: attempts under way at once, and batches in flight.

How it fails and recovers: one attempt may always go, whatever the destination does, and never more than `concurrency`.
Pauses and dead destinations are the subject of the breaker, not of this module.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

START: Final = 2
"""The limit at the start."""
SLACK: Final = 2.0
"""Answers that take this many times as long as usual show that the destination has too much to do."""
SLACK_S: Final = 0.01
"""Answers must also take this many seconds longer than usual, because small numbers vary."""
USUAL: Final = 0.1
"""The weight of the last round in the usual duration."""


class AdaptiveLimit:
    """Adapts a limit to what attempts report. Pure.

    A round is as many attempts as the limit allows at once. The limit doubles after each round that used all of it,
    while answers take no longer than usual. After the first push-back the limit grows by one a round. A round with a
    push-back, or with much slower answers, halves the limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(START, most)
        self._usual: float | None = None
        self._doubles = True
        self._begin_round()

    def _begin_round(self) -> None:
        self._attempts, self._seconds, self._was_pushed_back, self._was_full = 0, 0.0, False, False

    def record_answer(self, seconds: float, *, full: bool) -> None:
        """Record an attempt that got through in so many seconds. `full`: as many attempts were under way as the limit
        allows."""
        self._seconds += seconds
        self._was_full = self._was_full or full
        self._count()

    def record_push_back(self) -> None:
        """Record an attempt that the destination did not take: it was busy, or gave no answer."""
        self._was_pushed_back = True
        self._count()

    def _count(self) -> None:
        self._attempts += 1
        if self._attempts < self.limit:
            return
        mean = self._seconds / self._attempts
        usual = mean if self._usual is None else self._usual
        if self._was_pushed_back or mean > max(SLACK * usual, usual + SLACK_S):
            self.limit, self._doubles = max(1, self.limit // 2), False
        elif self._was_full:
            self.limit = min(self._most, self.limit * 2 if self._doubles else self.limit + 1)
        if not self._was_pushed_back:
            self._usual = usual + USUAL * (mean - usual)
        self._begin_round()


class ConcurrencyLimit:
    """Limits the attempts under way at once. Hold a place with `async with`; first come, first served."""

    def __init__(self, most: int) -> None:
        self._adaptive = AdaptiveLimit(most)
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def record_answer(self, seconds: float) -> None:
        """Record that an attempt got through in so many seconds."""
        self._adaptive.record_answer(seconds, full=self._is_full)

    def record_push_back(self) -> None:
        """Record that the destination did not take an attempt."""
        self._adaptive.record_push_back()

    @property
    def _is_full(self) -> bool:
        return self._used >= self._adaptive.limit

    async def __aenter__(self) -> None:
        if not self._is_full and not self._waiting:
            self._used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            elif turn in self._waiting:  # a release may have passed it over already
                self._waiting.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._used -= 1
        while self._waiting and not self._is_full:
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)


class InFlightLimit:
    """Limits the batches of one connector in flight. Each batch has a task of its own."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no batch is in flight."""
        return not self._tasks

    async def start(
        self, group: asyncio.TaskGroup, work: Callable[[], Coroutine[Any, Any, None]], name: str
    ) -> asyncio.Task[None]:
        """Start a task once fewer than the limit are in flight; the end of the task makes room."""
        await self._free.acquire()
        task = group.create_task(work(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self.leave)
        return task

    def leave(self, task: asyncio.Task[None]) -> bool:
        """Make room for another task; return whether this task took room."""
        if task not in self._tasks:
            return False
        self._tasks.remove(task)
        self._free.release()
        return True

    async def enter(self, task: asyncio.Task[None]) -> None:
        """Wait until a task that has left has room again."""
        await self._free.acquire()
        self._tasks.add(task)
