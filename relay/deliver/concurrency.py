"""How many attempts of a lane may be on their way at once: more while the destination keeps up, fewer when it does not.
And how many batches may be in flight, whether they are attempted now or wait for the next attempt.

How it fails and recovers: whatever the destination does, one attempt may always go, and never more than the connector's
`concurrency`. What a pause or a dead destination costs is not decided here but by the breaker.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

START: Final = 2
"""Slots to begin with."""
SLACK: Final = 2.0
"""Answers that take this many times as long as usual mean that the destination has too much to do."""
SLACK_S: Final = 0.01
"""And at least so many seconds longer: small numbers vary."""
USUAL: Final = 0.1
"""How much of the usual time the last round makes up."""


class Adaptive:
    """The limit, by what attempts tell. Pure.

    A round is as many attempts as there are slots. While answers take no longer than usual, each round whose slots were
    all in use gives twice the slots, and one more a round after the first push-back. A round in which the destination
    pushed back, or took much longer than usual, halves them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(START, most)
        self._usual: float | None = None
        self._doubles = True
        self._begin()

    def _begin(self) -> None:
        self._attempts, self._seconds, self._pushed, self._was_full = 0, 0.0, False, False

    def answered(self, seconds: float, *, full: bool) -> None:
        """An attempt got through in so many seconds; `full`: all slots were in use."""
        self._seconds += seconds
        self._was_full = self._was_full or full
        self._count()

    def pushed_back(self) -> None:
        """The destination did not take an attempt: not now, too much, or no answer at all."""
        self._pushed = True
        self._count()

    def _count(self) -> None:
        self._attempts += 1
        if self._attempts >= self.limit:
            self._end_round()

    def _end_round(self) -> None:
        mean = self._seconds / self._attempts
        usual = mean if self._usual is None else self._usual
        if self._pushed or mean > max(SLACK * usual, usual + SLACK_S):
            self.limit, self._doubles = max(1, self.limit // 2), False
        elif self._was_full:
            self.limit = min(self._most, self.limit * 2 if self._doubles else self.limit + 1)
        if not self._pushed:
            self._usual = usual + USUAL * (mean - usual)
        self._begin()


class Slots:
    """The slots, first come first served: hold one with `async with`."""

    def __init__(self, most: int) -> None:
        self._adaptive = Adaptive(most)
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def answered(self, seconds: float) -> None:
        """The attempt in one of the slots got through in so many seconds."""
        self._adaptive.answered(seconds, full=self._full)

    def pushed_back(self) -> None:
        """The destination did not take an attempt."""
        self._adaptive.pushed_back()

    @property
    def _full(self) -> bool:
        return self._used >= self._adaptive.limit

    async def __aenter__(self) -> None:
        if not self._full and not self._waiting:
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
        while self._waiting and not self._full:
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)


class InFlightLimit:
    """Limit the batches of one connector that are in flight, each in a task of its own."""

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
