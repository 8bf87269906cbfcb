"""The thread in which a State does its blocking work, one piece after the other."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

from relay.store.error import Unavailable

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
        error = None if ended.cancelled() else ended.exception()
        if isinstance(error, Unavailable) and error.reason == "taken":
            self._taken_why = str(error)
            self._taken.set()
            self.when_taken(self._taken_why)

    def close(self) -> None:
        """Finish the work under way. Blocking."""
        self._executor.shutdown()
