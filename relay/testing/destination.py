"""A real HTTP server to deliver to: it records every request, and misbehaves by script or by switch."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import orjson
from aiohttp import web

from relay.words import format_count

HARD_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: the kernel sends RST instead of FIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A behaviour: read the request, then answer. By default the answer is 200, at once and in one piece."""

    status: int = 200
    """Status of the answer."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer, such as `{"Retry-After": "3"}`."""
    body: bytes = b"{}"
    """Body of the answer."""
    delay: float = 0.0
    """Seconds to wait before the answer."""
    hang: bool = False
    """Answer only after `Destination.release()`. If the client gives up before, its events still count as accepted if
    `status` is 2xx. A destination makes duplicates in this way."""
    drip: float = 0.0
    """Seconds to wait before each byte of the body."""
    cut: bool = False
    """Close the connection in the middle of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """A behaviour: reset the connection."""

    after_body: bool = False
    """Reset after reading the body of the request, not before."""


Behaviour = int | Answer | Reset
"""What a `Destination` does with a request. A number is short for an `Answer` with that status."""


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A request that a `Destination` recorded."""

    method: str
    """Method, such as `POST`."""
    target: str
    """Path and query string."""
    headers: Mapping[str, str]
    """Headers by name, in any case."""
    body: bytes
    """Body, decompressed; empty if the connection was reset before the body was read."""
    status: int | None
    """Status of the answer, also if the client did not wait for the answer; None for a reset."""

    @property
    def taken(self) -> bool:
        """Return whether the status is 2xx."""
        return self.status is not None and 200 <= self.status < 300

    def bodies(self) -> list[bytes]:
        """Return the exact bytes of each event in the body: `{"events":[...]}`, an array, one object, or NDJSON.

        Raises ValueError if the body has another form.
        """
        body = self.body.strip()
        if not body:
            return []
        if body.startswith(b"["):
            return [bytes(event) for event in _ARRAY.decode(body)]
        try:
            envelope = _OBJECT.decode(body)
        except msgspec.DecodeError:
            if b"\n" not in body:
                raise ValueError(f"the request holds no events that could be read: {body[:80]!r}") from None
            return body.splitlines()
        return [body] if isinstance(envelope.events, msgspec.UnsetType) else [bytes(event) for event in envelope.events]


class Destination:
    """A real HTTP server on a free local port: `async with Destination(503) as destination:`.

    Each request gets the next behaviour of `script`. After the script, each request gets `behaviour`.
    """

    def __init__(self, *script: Behaviour) -> None:
        self.script = deque(script)
        self.behaviour: Behaviour = 200
        """The behaviour after the script. Set it at any time: `destination.behaviour = 503`."""
        self.choose: Callable[[Received], Behaviour | None] | None = None
        """Chooses the behaviour for a request after the script by what is in it; None: `behaviour`."""
        self.requests: list[Received] = []
        """All requests in the order of their arrival, refused requests included."""
        self.url = ""
        """URL of the server, such as `http://127.0.0.1:45123/`. Every path and method works."""
        self.connections: set[object] = set()
        """The client's address of each connection that has sent a request."""
        self._runner: web.ServerRunner | None = None
        self._port = 0
        self._released = asyncio.Event()
        self._news = asyncio.Event()
        self._looked_at = 0
        self._taken: list[bytes] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, after `stop` on the same port again. Does nothing while the server listens."""
        if self._runner is not None:
            return
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        host, self._port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{self._port}/"

    async def stop(self) -> None:
        """Close all connections and stop listening: further connections are refused."""
        self.release()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def release(self) -> None:
        """Send the answers that hang at this moment."""
        self._released.set()
        self._released = asyncio.Event()

    def bodies(self) -> list[bytes]:
        """Return the bytes of all events in accepted (2xx) requests, duplicates included."""
        for request in self.requests[self._looked_at :]:
            self._looked_at += 1
            if request.taken:
                self._taken += request.bodies()
        return self._taken.copy()

    def events(self) -> list[Any]:
        """Return all events in accepted requests, decoded from JSON."""
        return [orjson.loads(body) for body in self.bodies()]

    async def received(self, events: int, *, timeout: float = 20.0) -> None:
        """Wait until accepted requests have this number of events. Raises TimeoutError after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while len(self.bodies()) < events:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            found = f"{len(self.bodies())} came in {format_count(len(self.requests), 'request')}"
            raise TimeoutError(f"waited {timeout:g} s for {format_count(events, 'event')}, but {found}") from None

    async def requested(self, requests: int, *, timeout: float = 20.0) -> None:
        """Wait until this number of requests has come, refused requests included. Raises TimeoutError after `timeout`
        seconds."""
        async with asyncio.timeout(timeout):
            while len(self.requests) < requests:
                self._news.clear()
                await self._news.wait()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            self.connections.add(request.transport.get_extra_info("peername"))
        behaviour, body = await self._choose(request)
        if isinstance(behaviour, Reset):
            self._record(request, body if behaviour.after_body else b"", None)
            if request.transport is not None:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD_CLOSE)
                request.transport.abort()
            return web.Response()
        self._record(request, body, behaviour.status)
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

    async def _choose(self, request: web.BaseRequest) -> tuple[Answer | Reset, bytes]:
        """Return the behaviour for a request, and the body; no body if the connection is reset before it was read."""
        behaviour = self.script.popleft() if self.script else None if self.choose else self.behaviour
        if isinstance(behaviour, Reset) and not behaviour.after_body:
            return behaviour, b""
        body = await request.content.read()
        if behaviour is None and self.choose is not None:
            behaviour = self.choose(Received(request.method, request.path_qs, request.headers, body, None))
        behaviour = self.behaviour if behaviour is None else behaviour
        return Answer(status=behaviour) if isinstance(behaviour, int) else behaviour, body

    def _record(self, request: web.BaseRequest, body: bytes, status: int | None) -> None:
        self.requests.append(Received(request.method, request.path_qs, request.headers, body, status))
        self._news.set()
