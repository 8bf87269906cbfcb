"""One behaviour under way: the connector, its destination, and the calls that a lane would make."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any, Final, TypeVar

import orjson

from relay.api import Batch, Block, Connector, Event, Kind, Secret
from relay.api.internal import LeftBehind
from relay.deliver import AttemptResult, judge
from relay.testing.division import divide
from relay.testing.memory_store import MemoryStore
from relay.testing.suite.behaviour import expect
from relay.testing.suite.destination import SuiteDestination, find_ids, make_id

T = TypeVar("T")

TOKEN: Final = "a-secret-that-nobody-may-see"
ATTEMPTS: Final = 20
"""Attempts after which events that a healthy destination did not get count as lost."""
LONGEST_WAIT_S: Final = 0.05
"""Of a Retry-After: the suite has no time to wait for all of it."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What has become of a batch, by the numbers of its events."""

    delivered: list[int] = field(default_factory=list)
    parked: dict[int, str] = field(default_factory=dict)
    skipped: list[int] = field(default_factory=list)


class Rehearsal:
    """The connector under test and its destination, for one behaviour."""

    def __init__(
        self,
        make: Callable[[Any, Secret, Path], Connector],
        make_event: Callable[[str], bytes],
        destination: SuiteDestination,
        folder: Path,
        patience: float,
    ) -> None:
        self._make, self._make_event = make, make_event
        self.destination, self.folder, self.patience = destination, folder, patience
        self.connector: Connector
        """The connector that is open, or was last made."""
        self._offsets = count()
        self._store = MemoryStore()
        self._left = LeftBehind()
        """Threads that deliveries left behind when they were cut off."""

    def make(self, token: Secret | None = None) -> Connector:
        """Make the connector. `token`: a reference to a secret; None: the one of the suite."""
        if token is None:
            path = self.folder / "token"
            path.write_text(TOKEN)
            token = Secret("file", str(path))
        self.connector = self._make(self.destination.address, token, self.folder)
        vars(self.connector).setdefault("store", self._store)
        return self.connector

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Connector]:
        """Make and open the connector; release it at the end."""
        connector = self.make()
        try:
            await self.within("open", connector.open())
            yield connector
        finally:
            await self.within("release", connector.release())

    async def within(self, what: str, call: Coroutine[Any, Any, T]) -> T:
        """Await a call of the connector. A call that does not end in time fails the behaviour, and is left behind."""
        task = asyncio.Task(call, name=what)
        await asyncio.wait({task}, timeout=self.patience)
        if not task.done():
            place = self._find_wait(task)
            task.cancel()
            raise AssertionError(f"{what} did not end within {self.patience:g} s, but waits at {place}")
        return task.result()

    def event(self, **changes: Any) -> bytes:
        """Return an event with an id of its own, and with other fields at the top. None leaves a field out."""
        body = self._make_event(make_id())
        if not changes:
            return body
        data = orjson.loads(body) | changes
        return orjson.dumps({name: value for name, value in data.items() if value is not None})

    def batch(self, events: int | Iterable[bytes]) -> Batch:
        """Return a batch of ordinary events, or of these."""
        bodies = [self.event() for _ in range(events)] if isinstance(events, int) else events
        now = time.time()
        return Batch([Block.of([Event(body, _read_kind(body), next(self._offsets), now) for body in bodies])])

    def begin(self, batch: Batch) -> asyncio.Task[Any]:
        """Begin a delivery, which may be cut off."""
        with self._left.noted():
            return asyncio.Task(self.connector.deliver(batch), name="deliver")

    async def cut_off(self, call: asyncio.Task[Any]) -> None:
        """Cancel a delivery, as a lane does, and fail the behaviour unless the delivery ends by that."""
        was_running = call.cancel()
        await asyncio.wait({call}, timeout=self.patience)
        if not call.done():
            place = self._find_wait(call)
            raise AssertionError(
                f"deliver goes on for {self.patience:g} s after it was cancelled, and waits at {place}"
            )
        expect(not was_running or call.cancelled(), "deliver has swallowed its cancellation")

    async def attempt(self, batch: Batch) -> AttemptResult:
        """Make one attempt, as a lane does. Fails the behaviour if the answer is a bug."""
        await self.within("a thread that deliver has left behind", self._left.back())
        call = self.begin(batch)
        await asyncio.wait({call}, timeout=self.patience)
        if not call.done():
            place = self._find_wait(call)
            call.cancel()
            said = f"deliver did not return within {self.patience:g} s, but waits at {place}"
            raise AssertionError(f"{said}: leave waits and retries to relay")
        expect(not call.cancelled(), "deliver has cancelled itself")
        error = call.exception()
        result = judge(len(batch), error or call.result(), str, batch)
        for deferral in result.deferred:
            if deferral.bug:
                place = f", at {self._find_line(walk_tb(error.__traceback__))}" if error else ""
                raise AssertionError(f"{deferral.reason}{place}") from error
        return result

    async def deliver(self, batch: Batch) -> AttemptResult:
        """Make one attempt. Fails the behaviour if the outcomes say more than is true."""
        result = await self.attempt(batch)
        arrived = {*await self.destination.arrived()}
        bodies = batch.bodies()
        for number in result.find_delivered(len(batch)):
            missing = [one for one in find_ids(bodies[number])[:1] if one not in arrived]
            expect(not missing, f"event {number} of {len(batch)} is called delivered, but has not arrived")
        for number in (*result.refused_numbers, *result.skipped) if not result.split else ():
            here = [one for one in find_ids(bodies[number])[:1] if one in arrived]
            expect(not here, f"event {number} of {len(batch)} is called refused or skipped, but has arrived")
        return result

    async def settle(self, batch: Batch) -> Settlement:
        """Deliver until each event is delivered, parked or skipped, as a lane does: refused batches are divided."""
        numbers = {place: number for number, place in enumerate(batch.places())}
        books, waiting, attempts = Settlement(), deque([batch]), 0
        while waiting:
            async for part, result in divide(self.deliver, waiting.popleft()):
                own = [numbers[place] for place in part.places()]
                books.delivered.extend(own[number] for number in result.find_delivered(len(part)))
                books.parked.update((own[one.number], one.reason) for one in result.refused)
                books.skipped.extend(own[number] for number in result.skipped)
                if not result.deferred:
                    continue
                attempts += 1
                first = result.deferred[0]
                expect(attempts < ATTEMPTS, f"not delivered after {ATTEMPTS} attempts: {first.reason}")
                await asyncio.sleep(min(first.after or 0.0, LONGEST_WAIT_S))
                again = part.pick(result.deferred_numbers)
                again.attempt = part.attempt + 1
                waiting.append(again)
        return books

    async def check_arrives(self, batch: Batch, *, once: bool = True) -> None:
        """Deliver a batch, and fail the behaviour unless each of its events arrives, and only once if `once`."""
        books = await self.settle(batch)
        for reason in books.parked.values():
            raise AssertionError(f"an ordinary event is refused: {reason}")
        expect(not books.skipped, "an ordinary event is skipped")
        arrived, bodies = Counter(await self.destination.arrived()), batch.bodies()
        times = [arrived[one] for body in bodies for one in find_ids(body)[:1]]
        expect(all(times), f"{times.count(0)} of {len(bodies)} events did not arrive")
        expect(not once or max(times) == 1, f"an event arrived {max(times)} times")

    def _find_wait(self, task: asyncio.Task[Any]) -> str:
        """Return the file and line of the plugin at which a task waits."""
        return self._find_line(_walk_awaits(task))

    def _find_line(self, frames: Iterable[tuple[FrameType, int]]) -> str:
        """Return file and line of the innermost frame in the plugin's package; without any, of the innermost frame."""
        places = [(frame.f_globals.get("__name__", ""), f"{frame.f_code.co_filename}:{line}") for frame, line in frames]
        packages = {_find_package(one.__module__) for one in type(self.connector).__mro__} - {"relay", "builtins"}
        own = [place for module, place in places if _find_package(module) in packages]
        return [*(place for _, place in places), *own][-1] if places else "an unknown place"


def _walk_awaits(task: asyncio.Task[Any]) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of the awaits of a task and their lines, from the outermost to the innermost."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        awaited = getattr(awaited, "cr_await", None)


def _find_package(module: str) -> str:
    return module.partition(".")[0]


def _read_kind(body: bytes) -> Kind:
    try:
        return Kind("braze", str(orjson.loads(body)["event_type"]))
    except (ValueError, TypeError, LookupError):
        return Kind("braze", "suite.Unreadable")
