"""A real HTTP server to deliver to: it records every request, and misbehaves by script or by switch."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import orjson
from aiohttp import web

from relay.words import counted

HARD_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: the kernel sends RST instead of FIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Read the request, then answer; by default 200, at once and in one piece."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """For instance {"Retry-After": "3"}."""
    body: bytes = b"{}"
    delay: float = 0.0
    """Seconds to wait before the answer."""
    hang: bool = False
    """Answer only after `Destination.release()`. A client that runs into its timeout before never sees the answer, but
    its events count as taken if `status` is 2xx: how duplicates come about."""
    drip: float = 0.0
    """Seconds to wait before each byte of the body."""
    cut: bool = False
    """Close the connection in the middle of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Reset the connection, after reading the request's body or before."""

    after_body: bool = False


Behaviour = int | Answer | Reset
"""What to do with a request; a number is short for an `Answer` with that status."""


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A request as it came. Its events are looked for only when somebody asks."""

    method: str
    target: str
    """Path and query string."""
    headers: Mapping[str, str]
    body: bytes
    """Without its Content-Encoding; empty if the connection was reset before reading it."""
    status: int | None
    """What it was answered with, or would have been had the client stayed; None for a reset."""

    @property
    def taken(self) -> bool:
        """Whether the answer was, or would have been, 2xx."""
        return self.status is not None and 200 <= self.status < 300

    def bodies(self) -> list[bytes]:
        """The exact bytes of each event in `{"events":[...]}`, an array, a single object, or NDJSON.

        Raises ValueError if the body is none of these.
        """
        body = self.body.strip()
        if not body:
            return []
        if body.startswith(b"["):
            return [bytes(event) for event in _ARRAY.decode(body)]
        try:
            envelope = _OBJECT.decode(body)
        except msgspec.DecodeError:
            return body.splitlines() if b"\n" in body else _refuse(body)
        return [body] if isinstance(envelope.events, msgspec.UnsetType) else [bytes(event) for event in envelope.events]


def _refuse(body: bytes) -> list[bytes]:
    raise ValueError(f"the request holds no events that could be read: {body[:80]!r}")


class Destination:
    """A server on a free local port, as a context manager.

    Each request takes the next behaviour of `script`; when there is none left, `behaviour` applies, which may be
    set at any time.
    """

    def __init__(self, *script: Behaviour) -> None:
        self.script = deque(script)
        self.behaviour: Behaviour = 200
        self.requests: list[Received] = []
        """Every request, in the order in which they came, also those that were refused."""
        self.url = ""
        self._released = asyncio.Event()
        self._news = asyncio.Event()
        self._looked_at = 0
        self._taken: list[bytes] = []

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
        await self._runner.cleanup()

    def release(self) -> None:
        """Let the answers go that hang at this moment."""
        self._released.set()
        self._released = asyncio.Event()

    def bodies(self) -> list[bytes]:
        """The bytes of all events taken so far, with their duplicates; those of refused requests do not count."""
        for request in self.requests[self._looked_at :]:
            self._looked_at += 1
            if request.taken:
                self._taken += request.bodies()
        return self._taken.copy()

    def events(self) -> list[Any]:
        """All events taken so far, decoded; see `bodies`."""
        return [orjson.loads(body) for body in self.bodies()]

    async def received(self, events: int, *, timeout: float = 20.0) -> None:
        """Wait until so many events have been taken. Raises TimeoutError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while len(self.bodies()) < events:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            found = f"{len(self.bodies())} came in {counted(len(self.requests), 'request')}"
            raise TimeoutError(f"waited {timeout:g} s for {counted(events, 'event')}, but {found}") from None

    async def requested(self, requests: int, *, timeout: float = 20.0) -> None:
        """Wait until so many requests have come, whatever the answer. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while len(self.requests) < requests:
                self._news.clear()
                await self._news.wait()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        behaviour = self.script.popleft() if self.script else self.behaviour
        if isinstance(behaviour, int):
            behaviour = Answer(status=behaviour)
        if isinstance(behaviour, Reset):
            self._record(request, await request.content.read() if behaviour.after_body else b"", None)
            if request.transport is not None:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD_CLOSE)
                request.transport.abort()
            return web.Response()
        self._record(request, await request.content.read(), behaviour.status)
        if behaviour.hang:
            await self._released.wait()
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if behaviour.drip or behaviour.cut:
            response = web.StreamResponse(status=behaviour.status, headers=behaviour.headers)
            response.content_length = len(behaviour.body)
            await response.prepare(request)
            for byte in behaviour.body[: len(behaviour.body) // 2] if behaviour.cut else behaviour.body:
                await asyncio.sleep(behaviour.drip)
                await response.write(bytes((byte,)))
            if behaviour.cut and request.transport is not None:
                request.transport.close()
            return response
        return web.Response(status=behaviour.status, headers=behaviour.headers, body=behaviour.body)

    def _record(self, request: web.BaseRequest, body: bytes, status: int | None) -> None:
        self.requests.append(Received(request.method, request.path_qs, request.headers, body, status))
        self._news.set()
