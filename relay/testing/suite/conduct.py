"""Behaviours on how a connector shares a process: the loop, threads, connections and memory."""

import asyncio
import gc
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from relay.api import User
from relay.testing.suite.behaviour import SuiteBase, behaviour, expect, find_place
from relay.testing.suite.held import count_held
from relay.testing.suite.rehearsal import Rehearsal

BLOCKED_S = 0.2
"""The longest time for which nothing else may run."""
LATE_S = 0.1
TRIES = 3
"""A busy machine may hold up the loop once or twice."""
BEAT_S = 0.01
ERASE_S = 1.0
ENDS_TRIES = 100
"""Looks, a beat apart, for threads and connections to end after a release."""
WARM, MORE = 20, 40
"""Batches before the first and between the first and the second look at the memory."""


class ConductBehaviours(SuiteBase):
    """What every connector shows as a neighbour of others."""

    @behaviour("loop")
    async def test_does_not_block_the_loop(self, rehearsal: Rehearsal) -> None:
        """While the connector opens, delivers and closes, other tasks run."""
        places = set[str]()
        for _ in range(TRIES):
            with _Heartbeat(threading.get_ident()) as heartbeat:
                beat = asyncio.Task(heartbeat.beat(), name="heartbeat")
                try:
                    async with rehearsal.opened():
                        await rehearsal.settle(rehearsal.batch(50))
                finally:
                    beat.cancel()
            if not heartbeat.places:
                return
            places |= heartbeat.places
        raise AssertionError(f"nothing else runs for {BLOCKED_S:g} s at a time: {', '.join(sorted(places))}")

    @behaviour("threads")
    async def test_blocks_in_threads_of_its_own_alone(self, rehearsal: Rehearsal) -> None:
        """Work that blocks is done by `self.run_blocking`, not in threads that all plugins share."""
        with _Shared() as shared:
            asyncio.get_running_loop().set_default_executor(shared)
            async with rehearsal.opened() as connector:
                await rehearsal.settle(rehearsal.batch(3))
                with suppress(Exception):  # any exception is an outcome to a lane
                    async with asyncio.timeout(ERASE_S):
                        await connector.erase([User("639a35d192b0df004d06514c", ("customer-1",))])
        found = ", ".join(sorted({*shared.work}))
        expect(not found, f"{found}: use self.run_blocking, asyncio.to_thread has threads that all plugins share")

    @behaviour("leaves_nothing")
    async def test_leaves_nothing_behind(self, rehearsal: Rehearsal) -> None:
        """After its release a connector has no task, thread, connection or open file, and nothing warns."""
        async with rehearsal.opened():  # what is made once and stays is made now
            await rehearsal.settle(rehearsal.batch(1))
        gc.collect()
        before = _Inventory()
        with _noticed() as said:
            async with rehearsal.opened():
                for _ in range(3):
                    await rehearsal.settle(rehearsal.batch(2))
            for _ in range(ENDS_TRIES):  # threads and connections need a moment to end
                if not (left := _Inventory().since(before)):
                    break
                await asyncio.sleep(BEAT_S)
            del rehearsal.connector
            gc.collect()
        expect(not left, f"left behind: {', '.join(left)}")
        expect(not said, f"left behind: {', '.join(said)}")

    @behaviour("memory")
    async def test_memory_does_not_grow_with_batches(self, rehearsal: Rehearsal) -> None:
        """A connector keeps nothing of a batch that is delivered; `self.store` is for what has to be kept."""
        async with rehearsal.opened() as connector:
            sizes = []
            for batches in (WARM, MORE):
                for _ in range(batches):
                    await rehearsal.settle(rehearsal.batch(2))
                sizes.append(count_held(connector))
        grown = {place: size - sizes[0][place] for place, size in sizes[1].items() if size - sizes[0][place] >= MORE}
        held = ", ".join(f"{place} by {size:,}" for place, size in grown.items())
        expect(not grown, f"grows with each batch ({MORE} batches): {held}")

    @behaviour("reopened")
    async def test_can_be_opened_again(self, rehearsal: Rehearsal) -> None:
        """The same object delivers after `release` and `open`."""
        async with rehearsal.opened() as connector:
            await rehearsal.check_arrives(rehearsal.batch(1))
            await rehearsal.within("release", connector.release())
            await rehearsal.within("open", connector.open())
            await rehearsal.check_arrives(rehearsal.batch(1))

    @behaviour("closed_twice")
    async def test_can_be_closed_twice(self, rehearsal: Rehearsal) -> None:
        """A second `close` does nothing."""
        async with rehearsal.opened() as connector:
            await rehearsal.settle(rehearsal.batch(1))
            await rehearsal.within("close", connector.close())

    @behaviour("never_opened")
    async def test_can_be_closed_without_being_opened(self, rehearsal: Rehearsal) -> None:
        """relay also releases a connector that it has never opened."""
        await rehearsal.within("release", rehearsal.make().release())


class _Heartbeat:
    """Finds where the loop is held up, by a look from another thread."""

    def __init__(self, watched: int) -> None:
        self._watched, self._beats, self._ended = watched, 0, threading.Event()
        self.places = set[str]()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> "_Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    async def beat(self) -> None:
        while True:
            self._beats += 1
            await asyncio.sleep(BEAT_S)

    def _watch(self) -> None:
        seen, woken = -1, time.monotonic()
        while not self._ended.wait(BLOCKED_S):
            before, woken = woken, time.monotonic()
            is_late = woken - before > BLOCKED_S + LATE_S  # the machine is busy, and holds up this thread as well
            if self._beats == seen and not is_late:
                self.places.add(find_place(sys._current_frames().get(self._watched)))  # noqa: SLF001 - no other way
            seen = self._beats


class _Shared(ThreadPoolExecutor):
    """The default threads of asyncio, with a record of their work."""

    def __init__(self) -> None:
        super().__init__(1)
        self.work: list[str] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Do the work, and record its name."""
        meant = getattr(work, "args", (work,))[0]  # asyncio.to_thread hands over what it is to do as an argument
        self.work.append(getattr(meant, "__qualname__", repr(meant)))
        return super().submit(work, *arguments, **more)


class _Inventory:
    """The tasks, threads and open files of the process."""

    def __init__(self) -> None:
        tasks = (one for one in asyncio.all_tasks() if "RequestHandler." not in repr(one.get_coro()))  # the server's
        self.found = Counter(f"the task {one.get_name()!r} ({one.get_coro()})" for one in tasks if not one.done())
        self.found += Counter(f"the thread {one.name!r}" for one in threading.enumerate())
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # that of the listing is closed by now
                self.found[f"the open file {descriptor.readlink()}"] += 1

    def since(self, before: "_Inventory") -> list[str]:
        """Return what has been added since."""
        return sorted(self.found - before.found)


@contextmanager
def _noticed() -> Iterator[list[str]]:
    """Collect what warns, and what asyncio says of objects that were forgotten."""
    said: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: said.append(str(context.get("message"))))
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield said
        said += [str(one.message) for one in warned]
    finally:
        loop.set_exception_handler(None)
