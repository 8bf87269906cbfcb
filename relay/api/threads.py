"""A connector's own threads, for work that blocks: a disk, a pipe, a library that knows no asyncio.

How it fails and recovers: work that has begun cannot be ended. If the delivery that waits for it is cut off, its thread
is left behind. It keeps one of the connector's threads and nothing else. Until the thread is back the delivery is not
tried again, no other object of the same connector delivers, and no erasure is done there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BACK_S: Final = 0.1
"""How soon it is noticed that a thread is back."""


class LeftBehind:
    """Work that still runs in threads, for example after a delivery was cut off."""

    def __init__(self) -> None:
        self._work: set[Future[Any]] = set()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Add here all work that the body leaves behind."""
        before = _NOTING.set(self)
        try:
            yield
        finally:
            _NOTING.reset(before)

    def add(self, work: Future[Any]) -> None:
        """Add work that still runs."""
        self._work.add(work)

    def discard(self, work: Future[Any]) -> None:
        """Drop work that is done."""
        self._work.discard(work)

    def take(self, other: "LeftBehind") -> None:
        """Add the running work of another object."""
        self._work.update(other)

    async def back(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Wait until all work is done. Raises every exception of `sleep`."""
        while self:  # a thread tells nobody
            await sleep(BACK_S)

    def __iter__(self) -> Iterator[Future[Any]]:
        """Iterate over work that is not done yet."""
        self._work = {one for one in self._work if not one.done()}
        return iter(self._work)

    def __bool__(self) -> bool:
        """Return whether work is not done yet."""
        return bool([*self])


_NOTING: ContextVar[LeftBehind | None] = ContextVar("where threads that are left behind are noted", default=None)


class Threads:
    """The threads of one connector: at most so many at a time, further work waits for its turn."""

    def __init__(self, name: str, most: int, under_way: LeftBehind | None = None) -> None:
        """`under_way` gets all work until it is done, also work that nobody waits for."""
        self._pool = ThreadPoolExecutor(most, name)
        self._under_way, self._left = LeftBehind() if under_way is None else under_way, LeftBehind()

    @property
    def hang(self) -> bool:
        """Return whether abandoned work still runs."""
        return bool(self._left)

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work in a thread and return its result. A cancellation drops only work that has not begun."""
        begun, noting = self._pool.submit(partial(_run, work, *arguments)), _NOTING.get()
        self._under_way.add(begun)
        try:
            return await asyncio.wrap_future(begun)
        except (asyncio.CancelledError, GeneratorExit):  # the latter if the caller does not heed the former
            for each in (self._left, noting):
                if each is not None and not begun.done():
                    each.add(begun)
            raise
        finally:
            if begun.done():
                self._under_way.discard(begun)

    def close(self) -> None:
        """Refuse further work, and do not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def release(held: dict[str, Any], close: Callable[[], Awaitable[None]], tell: Callable[[], None]) -> None:
    """Close a plugin, then its HTTP session and its threads, which `close` may still use. `held`: its attributes.

    If a thread hangs, call `tell` instead of `close`."""
    threads: Threads | None = held.get("_threads")
    try:
        if threads is not None and threads.hang:
            tell()
        else:
            await close()
    finally:
        if (session := held.pop("http", None)) is not None:
            await session.close()
        if (threads := held.pop("_threads", None)) is not None:
            threads.close()


def _run(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Do work. Raises RuntimeError for a StopIteration, as no future can hold a StopIteration."""
    try:
        return work(*arguments)
    except StopIteration as error:
        raise RuntimeError("the work raised StopIteration") from error
