"""A stand-in for the sending half of Braze Currents: the connections of a `Current`."""

import asyncio
import io
from collections.abc import AsyncIterable, Callable
from random import Random
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from relay.sandbox.braze.current import Current, CurrentCounts
from relay.sandbox.braze.reactions import CurrentsSwitches
from relay.sandbox.clock import SandboxClock

HEADERS: Final = {"Content-Type": "application/json", "Braze-Currents-Version": "1"}
DEFAULT: Final = CurrentsSwitches()
PROBES: Final = (b"", b'{"events":[]}')


class CurrentsSender:
    """Sends events as a Current does: a queue and batches per event type, several connections, retries by status.

    It is a context manager. `counts` is up to date while it sends.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        connections: int = 4,
        room: int = 10_000,
        switches: CurrentsSwitches = DEFAULT,
        clock: SandboxClock | None = None,
    ) -> None:
        """`room`: number of waiting events from which `feed` takes no more events."""
        self.clock = clock or SandboxClock()
        self.current = Current(switches)
        self._url = URL(url, encoded=True)  # the query string stays as it was written
        self._token, self._connections, self._room = token, connections, room
        self._rng = Random()

    @property
    def counts(self) -> CurrentCounts:
        """Return the counts of the events by their outcome."""
        return self.current.counts

    @property
    def stopped(self) -> str | None:
        """Return the reason for which Braze would have stopped the Current, or None."""
        return self.current.stopped

    @property
    def switches(self) -> CurrentsSwitches:
        """Return the switches in force."""
        return self.current.switches

    @switches.setter
    def switches(self, switches: CurrentsSwitches) -> None:
        self.current.switches = switches
        self.clock.ring()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def probe(self, token: str | None = None) -> list[int | None]:
        """Probe the credentials as Braze does: with an empty body, then with no events. Return both statuses."""
        return [await self._post(body, token or self._token) for body in PROBES]

    def add(self, kind: str, body: bytes) -> None:
        """Queue the body of an event. `kind`: its event type."""
        if self.current.add(kind, body, self.clock()):
            self.clock.ring()

    def flush(self) -> None:
        """Send the events of incomplete batches."""
        self.current.flush(self.clock())
        self.clock.ring()

    def enable(self) -> None:
        """Switch a stopped Current on again."""
        self.current.enable(self.clock())
        self.clock.ring()

    async def send(self, events: AsyncIterable[tuple[str, bytes]] | None = None) -> None:
        """Send (type, body) pairs and all queued events. Return when all are settled or the Current is `stopped`."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self.run(), name="currents")
            if events is not None:
                await self.feed(events)
            self.flush()
            await self._wait_until(lambda: not self.current.waiting)
            work.cancel()

    async def feed(self, events: AsyncIterable[tuple[str, bytes]]) -> None:
        """Queue (type, body) pairs as there is room. `run` sends them."""
        async for kind, body in events:
            self.add(kind, body)
            await self._wait_until(lambda: self.current.waiting < self._room)

    async def run(self) -> None:
        """Send queued events until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._run_connection(), name=f"currents {number}")

    async def _wait_until(self, good: Callable[[], bool]) -> None:
        while not good() and not self.stopped:
            await self.clock.doze()

    async def _run_connection(self) -> None:
        while True:
            batch = self.current.take(self.clock())
            if batch is None:
                await self.clock.doze(self.current.find_due())
                continue
            send = self._hang_up if self._rng.random() < self.switches.hang_up else self._post
            status = await send(batch.make_body(), self._token)
            self.current.settle(batch, status, self.clock())
            self.clock.ring()

    async def _post(self, body: bytes, token: str | None) -> int | None:
        timeout = aiohttp.ClientTimeout(total=self.switches.timeout)
        try:
            async with self._http.post(
                self._url, data=io.BytesIO(body), headers=_make_headers(token), allow_redirects=False, timeout=timeout
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _hang_up(self, body: bytes, token: str | None) -> None:
        """Send the whole request, and close the connection before the answer comes. The outcome stays unknown."""
        url, fields = self._url, _make_headers(token) | {"Host": self._url.authority, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            async with asyncio.timeout(self.switches.timeout):
                _, writer = await asyncio.open_connection(url.host, url.port, ssl=url.scheme == "https" or None)
                writer.write(f"POST {url.raw_path_qs} HTTP/1.1\r\n{head}\r\n".encode() + body)
                writer.close()  # after what is still to be written
                await writer.wait_closed()
        except OSError:  # a TimeoutError is one, too
            return


def _make_headers(token: str | None) -> dict[str, str]:
    return HEADERS | ({"Authorization": f"Bearer {token}"} if token else {})
