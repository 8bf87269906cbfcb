"""The thread in which a State does its blocking work, one piece after the other; and the base of such a State."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

from relay.store.error import Unavailable
from relay.store.parked import Parked, ParkedLimits, Reason, Removals, RemovedParked, measure_parked

C = TypeVar("C")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
CLOSED: Final = "the state is closed"


class StateThread:
    """Does work in the order in which it was submitted. Use it from one event loop."""

    def __init__(self, convert_errors: Callable[[], AbstractContextManager[None]]) -> None:
        """`convert_errors`: raises the engine's errors in its body as Unavailable."""
        self._executor = ThreadPoolExecutor(1, "state")
        self._convert_errors = convert_errors
        self._began: float | None = None
        self._moved = asyncio.Event()
        self._taken, self._taken_why = asyncio.Event(), ""
        self.refusing: str | None = None
        """Why the last work that `run` did has failed; None: it succeeded."""
        self.when_taken: Callable[[str], object] = lambda reason: None
        """Gets the reason when work fails because another process works with the partition."""

    @property
    def busy_for(self) -> float:
        """Seconds that the present work has taken, including its wait for others; 0: idle."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work, and note in `refusing` how it ends. Raises Unavailable."""
        try:
            result = await self.submit(work, *arguments)
        except Unavailable as error:
            self.refusing = str(error)
            self._note_taken(error)  # before whoever awaits it goes on: the callback may run later
            raise
        self.refusing = None
        return result

    def submit(self, work: Callable[[*Ts], T], *arguments: *Ts) -> asyncio.Future[T]:
        """Do work as soon as the thread is free. Await the result only to learn how it ends."""
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._executor, self._do, work, *arguments)
        except RuntimeError:  # the executor is shut down
            future = loop.create_future()
            future.set_exception(Unavailable(CLOSED, "taken"))
        future.add_done_callback(self._note_end)
        return future

    def call(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work, and wait for its end. Blocking. Raises Unavailable."""
        return self._executor.submit(partial(self._do, work, *arguments)).result()

    async def await_answer(self) -> None:
        """Wait until some work has ended, well or not: for ever, if it hangs."""
        self._moved.clear()
        self.submit(lambda: None)
        await self._moved.wait()

    async def await_taken(self) -> str:
        """Wait until work has failed because another process works with the partition; return the reason."""
        await self._taken.wait()
        return self._taken_why

    def _do(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        self._began = time.monotonic()
        try:
            with self._convert_errors():
                return work(*arguments)
        finally:
            self._began = None

    def _note_end(self, ended: asyncio.Future[Any]) -> None:
        self._moved.set()
        self._note_taken(None if ended.cancelled() else ended.exception())

    def _note_taken(self, error: BaseException | None) -> None:
        if isinstance(error, Unavailable) and error.reason == "taken":
            self._taken_why = str(error)
            self._taken.set()
            self.when_taken(self._taken_why)

    def close(self) -> None:
        """Finish the work under way. Blocking."""
        self._executor.shutdown()


class ThreadedState(ABC, Generic[C]):
    """The base of a State that works with a connection of type C in a `StateThread`."""

    def __init__(self, convert_errors: Callable[[], AbstractContextManager[None]]) -> None:
        """`convert_errors`: raises the engine's errors in its body as Unavailable."""
        self.thread = StateThread(convert_errors)
        """The thread of all work with the tables."""
        self.parked_limits = ParkedLimits()
        self.removals: dict[Reason, Removals] = {}
        """Removed parked events that are not logged yet."""
        self._removed = 0

    @property
    def refusing(self) -> str | None:
        """Why the last transaction failed; None: it succeeded."""
        return self.thread.refusing

    @property
    def busy_for(self) -> float:
        """Seconds that the present work has taken, including its wait for others; 0: idle."""
        return self.thread.busy_for

    async def await_answer(self) -> None:
        """Wait until some request to the database has ended, well or not: for ever, if it hangs."""
        await self.thread.await_answer()

    @abstractmethod
    async def run(self, work: Callable[[C], T]) -> T:
        """Run work as one transaction. Raises Unavailable."""

    async def run_once(self, work: Callable[[C], T]) -> T:
        """Run work as one transaction; never twice, if the engine can tell. Raises Unavailable."""
        return await self.run(work)

    async def _park(
        self,
        parked: Sequence[Parked],
        make_room: Callable[[C, int], list[RemovedParked]],
        add: Callable[[C], list[int]],
    ) -> list[int]:
        """Park events, once there is room; return their numbers. Parks nothing if it is cancelled before its end.

        `make_room` makes room for so many bytes, and returns the removed events. `add` parks the events.
        """
        made, is_wanted = 0, True
        size = sum(measure_parked(one.reason, one.answer, one.key, one.body) for one in parked)

        def write(db: C) -> tuple[list[RemovedParked], list[int]]:
            if made < size and (gone := make_room(db, size)):
                return gone, []
            numbers = add(db)
            if not is_wanted:
                raise Unavailable("nobody waits for this any more")
            return [], numbers

        try:
            while (done := await self.run_once(write))[0]:
                made += self._note_removed(done[0])
        except asyncio.CancelledError:
            is_wanted = False
            raise
        return done[1]

    def _note_removed(self, gone: Sequence[RemovedParked]) -> int:
        """Note removed events for the log; return their bytes."""
        for one in gone:
            self.removals.setdefault(one.reason, Removals()).add(one)
        self._removed += len(gone)
        return sum(one.size for one in gone)
