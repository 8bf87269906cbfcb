"""A stand-in for the sending half of Braze Currents, with the batching and the answer rules of Braze's documentation
("Custom Currents Export"). Where the documentation is silent (waits, connections), the values are ours."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from random import Random
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

BATCH_EVENTS: Final = 100
HEADERS: Final = {"Content-Type": "application/json", "Braze-Currents-Version": "1"}
PROBES: Final = (b"", b'{"events":[]}')


class Next(Enum):
    """What Braze does about a batch after an answer."""

    DONE = auto()
    SINGLES = auto()
    HALVES = auto()
    DROP = auto()
    WAIT = auto()
    STOP = auto()


def after(status: int | None, size: int, *, refused: bool = False) -> Next:
    """Decide about a batch of `size` events by the answer's status; None is a network error.

    `refused` says that the batch was answered 400 before. What Braze does with a single event that is answered 413
    is not documented; here it is dropped.
    """
    match status:
        case 400:
            return Next.DROP if refused and size == 1 else Next.SINGLES
        case 413:
            return Next.HALVES if size > 1 else Next.DROP
        case 401 | 403 | 404:
            return Next.STOP
        case int() if 200 <= status < 300:
            return Next.DONE
        case _:
            return Next.WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds to wait before another attempt: between half and all of `first` * 2^n, at most `max`."""

    first: float = 0.2
    max: float = 5.0

    def wait(self, attempt: int, rng: Random) -> float:
        """Seconds to wait after attempt number `attempt`, counted from 1."""
        return min(self.max, self.first * 2.0 ** min(attempt - 1, 60)) * rng.uniform(0.5, 1)


@dataclass(slots=True)
class Counts:
    """Events by what became of them; what is neither accepted nor dropped waits, or was left when sending stopped.
    `retried` counts an event each time it goes out again."""

    sent: int = 0
    accepted: int = 0
    retried: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Batch:
    events: tuple[bytes, ...]
    attempt: int = 1
    refused: bool = False

    def body(self) -> bytes:
        return b'{"events":[' + b",".join(self.events) + b"]}"

    def halves(self) -> Sequence["_Batch"]:
        middle = len(self.events) // 2
        return _Batch(self.events[:middle]), _Batch(self.events[middle:])

    def singles(self) -> Sequence["_Batch"]:
        return [_Batch((event,), refused=True) for event in self.events]


class CurrentsSender:
    """Sends events as a Current does: a queue and batches per event type, several connections, retries by status.

    A context manager. `counts` is up to date while it sends; `stopped` says why Braze would have given up the Current.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        age: float = 0.2,
        connections: int = 4,
        timeout: float = 10.0,
        backoff: Backoff = Backoff(),
    ) -> None:
        """Times are in seconds. An event waits at most `age` for its batch to fill."""
        self.counts = Counts()
        self.stopped: str | None = None
        self._url = URL(url, encoded=True)  # the query string stays as it was written
        self._headers = HEADERS | ({"Authorization": f"Bearer {token}"} if token else {})
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._age = age
        self._backoff = backoff
        self._rng = Random()
        self._slots = asyncio.Semaphore(connections)
        self._queues: defaultdict[str, list[bytes]] = defaultdict(list)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def probe(self) -> list[int | None]:
        """Check the credentials as Braze does, with an empty body and with no events; return both statuses."""
        return [await self._post(body) for body in PROBES]

    async def send(self, events: AsyncIterable[tuple[str, bytes]]) -> None:
        """Send (type, body) pairs until all are settled or the Current is `stopped`."""
        async with asyncio.TaskGroup() as group:
            clock = group.create_task(self._flush_by_age(group), name="currents clock")
            async for kind, body in events:
                if self.stopped:
                    break
                self.counts.sent += 1
                self._queues[kind].append(body)
                if len(self._queues[kind]) >= BATCH_EVENTS:
                    await self._launch(kind, group)
            clock.cancel()
            await self._flush(group)

    async def _flush_by_age(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self._age)
            await self._flush(group)

    async def _flush(self, group: asyncio.TaskGroup) -> None:
        for kind in [*self._queues]:
            await self._launch(kind, group)

    async def _launch(self, kind: str, group: asyncio.TaskGroup) -> None:
        """Send what waits of that type as soon as a connection is free; its events leave the queue only then."""
        await self._slots.acquire()
        batch = _Batch(tuple(self._queues.pop(kind, ())))
        group.create_task(self._settle(batch), name=f"currents {kind}")

    async def _settle(self, batch: _Batch) -> None:
        try:
            todo = [batch] if batch.events else []
            while todo and not self.stopped:
                todo += await self._attempt(todo.pop())
        finally:
            self._slots.release()

    async def _attempt(self, batch: _Batch) -> Sequence[_Batch]:
        """Send a batch and return what has to be sent instead of it."""
        status = await self._post(batch.body())
        again: Sequence[_Batch] = ()
        match after(status, len(batch.events), refused=batch.refused):
            case Next.DONE:
                self.counts.accepted += len(batch.events)
            case Next.DROP:
                self.counts.dropped += len(batch.events)
            case Next.STOP:
                self.stopped = f"HTTP {status}"
            case Next.SINGLES:
                again = batch.singles()
            case Next.HALVES:
                again = batch.halves()
            case Next.WAIT:
                await asyncio.sleep(self._backoff.wait(batch.attempt, self._rng))
                again = [replace(batch, attempt=batch.attempt + 1)]
        self.counts.retried += sum(len(batch.events) for batch in again)
        return again

    async def _post(self, body: bytes) -> int | None:
        try:
            async with self._http.post(self._url, data=body, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None
