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
    """Work in threads that is waited for by nobody but who asks here: that of one delivery, for example."""

    def __init__(self) -> None:
        self._work: set[Future[Any]] = set()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note here what is left behind inside."""
        before = _NOTING.set(self)
        try:
            yield
        finally:
            _NOTING.reset(before)

    def add(self, work: Future[Any]) -> None:
        """Note work that goes on."""
        self._work.add(work)

    def discard(self, work: Future[Any]) -> None:
        """Forget work that is done."""
        self._work.discard(work)

    def take(self, other: "LeftBehind") -> None:
        """Note what goes on there now."""
        self._work.update(other)

    async def back(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Wait until all of it is done. Raises what `sleep` raises."""
        while self:  # a thread tells nobody
            await sleep(BACK_S)

    def __iter__(self) -> Iterator[Future[Any]]:
        """What is not done yet."""
        self._work = {one for one in self._work if not one.done()}
        return iter(self._work)

    def __bool__(self) -> bool:
        """Whether a thread is not back yet."""
        return bool([*self])


_NOTING: ContextVar[LeftBehind | None] = ContextVar("where threads that are left behind are noted", default=None)


class Threads:
    """The threads of one connector: at most so many at a time, further work waits for its turn."""

    def __init__(self, name: str, most: int, under_way: LeftBehind | None = None) -> None:
        """All work is noted in `under_way` until it is done, whether it is waited for or not."""
        self._pool = ThreadPoolExecutor(most, name)
        self._under_way, self._left = LeftBehind() if under_way is None else under_way, LeftBehind()

    @property
    def hang(self) -> bool:
        """Whether work goes on that nobody waits for any more."""
        return bool(self._left)

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do the work in a thread and return what it returns. When cancelled: work that waits is dropped, work that
        has begun goes on."""
        begun, noting = self._pool.submit(partial(_do, work, *arguments)), _NOTING.get()
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
        """Begin no further work. Does not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def release(held: dict[str, Any], close: Callable[[], Awaitable[None]], tell: Callable[[], None]) -> None:
    """Close a plugin, then its HTTP session and its threads, which `close` may still use. `held`: its attributes.

    If a thread hangs, `tell` is called instead of `close`."""
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


def _do(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Do the work. No future can hold a StopIteration: who waits for one would wait for ever."""
    try:
        return work(*arguments)
    except StopIteration as error:
        raise RuntimeError("the work raised StopIteration") from error
