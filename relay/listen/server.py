"""The connections of one listener: how many there are, who makes room for others, and who is late.

At the bound those that have waited longest without a request are closed, a portion at a time, so that it costs little
however fast strangers connect. Where all of them have a request under way, who comes is answered 503.
"""

import asyncio
import heapq
import socket
import ssl
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast, get_args

import structlog
from aiohttp import web

from relay.listen.connection import Connection, client_of
from relay.listen.limits import LINE_BYTES, ListenerLimits, connections_within
from relay.listen.refusal import BUG, ODD_EXPECT, Cause, Refusal
from relay.stop import STOP, left

PORTIONS: Final = 16
"""At the bound, one in so many connections is closed at a time."""
LOOKS: Final = 8
"""How often it is looked who is late, within the time that they have."""
TLS_END_S: Final = 5.0
"""How long a client may take to take leave of TLS."""
RETRY_AFTER_S: Final = 5
STOP_S: Final = 5.0
"""What requests under way have to end, if nobody says how long that may take."""
log = structlog.stdlib.get_logger()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server(web.Server):
    """A listener's connections; aiohttp's server, within limits."""

    def __init__(self, handler: Handler, name: str, limits: ListenerLimits, **options: Any) -> None:
        """`name` is for the log and the metrics; `options` are aiohttp's, of its server and of each connection."""
        handling = {key: options.pop(key) for key in ("request_factory", "handler_cancellation") if key in options}
        super().__init__(handler, **handling)
        self.name = name
        self._look: asyncio.TimerHandle | None = None
        self.limits = limits
        self._options = options
        self.open: dict[Connection, None] = {}
        """Those that are made, the oldest first."""
        self._shaking: dict[asyncio.Task[None], tuple[float, str]] = {}
        """Those in their TLS handshake: since when, and whose."""
        self._making: set[asyncio.Task[None]] = set()
        """Those without TLS, which are made in a moment; uvloop forgets about one that is cancelled meanwhile."""
        self.refused = Counter[str](dict.fromkeys(get_args(Cause), 0))
        """Connections that were refused or closed, since the start."""

    @property
    def limits(self) -> ListenerLimits:
        """What connections are granted; may be set while it listens."""
        return self._limits

    @limits.setter
    def limits(self, limits: ListenerLimits) -> None:
        self._limits = limits
        self.bound = connections_within(limits.connections)
        late = f"no complete request came within {limits.head:g} s{limits.named('read_timeout')}"
        unread = f"the answer was left unread for {limits.head:g} s{limits.named('read_timeout')}"
        full = f"{self.bound:,} connections are open, all with a request under way{limits.named('max_connections')}"
        self.late, self.unread = Refusal("timeout", 408, late), Refusal("timeout", 408, unread)
        self.full = Refusal("full", 503, full, RETRY_AFTER_S)
        if self._look is not None:
            self._look_later()

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self.open) + len(self._shaking) + len(self._making)

    @property
    def is_settling(self) -> bool:
        """Whether more can only be accepted when those are made that were accepted a moment ago."""
        return bool(self._making) and self.connected >= self.bound

    def __call__(self, address: object = None, connecting: asyncio.Task[None] | None = None) -> Connection:
        """What speaks HTTP on a new connection."""
        if self._look is None:
            self._look_later()
        limits = {"keepalive_timeout": self.limits.idle, "max_line_size": LINE_BYTES, "max_field_size": LINE_BYTES}
        return Connection(
            self, address, connecting, {"loop": self._loop, "access_log": None, **limits, **self._options}
        )

    def take(self, accepted: socket.socket, address: object, tls: ssl.SSLContext | None) -> None:
        """Serve a connection that was accepted, or refuse it."""
        if not self.has_room():
            self.count(self.full, client_of(address))
            with accepted, suppress(OSError):
                if tls is None:
                    accepted.send(self.full.answer)
            return
        task = self._loop.create_task(self._connect(accepted, address, tls), name=f"{self.name}: a new connection")
        if tls is None:
            self._making.add(task)
        else:
            self._shaking[task] = self._loop.time(), client_of(address)
        task.add_done_callback(lambda done: self._connected(done, accepted))

    async def _connect(self, accepted: socket.socket, address: object, tls: ssl.SSLContext | None) -> None:
        """Begin to serve it. The loop closes the socket if that fails."""
        limits = {"ssl": tls, "ssl_handshake_timeout": self.limits.head, "ssl_shutdown_timeout": TLS_END_S}
        speak = partial(self, address, asyncio.current_task())
        try:
            await self._loop.connect_accepted_socket(speak, accepted, **(limits if tls else {}))  # type: ignore[arg-type]
        except ConnectionAbortedError:
            self.count(self.late, client_of(address))
        except OSError:  # a handshake that failed was told where it failed
            self.refused["malformed"] += 1

    def made(self, connection: Connection) -> None:
        """Count a connection as one of those that speak HTTP."""
        if connection.connecting is not None:
            self._count_out(connection.connecting)
        connection.connecting = None
        self.open[connection] = None

    def _count_out(self, task: asyncio.Task[None]) -> None:
        self._shaking.pop(task, None)
        self._making.discard(task)

    def _connected(self, task: asyncio.Task[None], accepted: socket.socket) -> None:
        self._count_out(task)
        if task.cancelled():
            accepted.close()

    def has_room(self) -> bool:
        """Whether there is room for another connection, if need be after closing some that are not in use."""
        if self.connected < self.bound:
            return True
        longest = heapq.nsmallest(max(1, self.bound // PORTIONS), self._free(), key=lambda one: one[0])
        for _, _, close in longest:
            close()
        self.refused["evicted"] += len(longest)
        if longest:
            ((most, _),) = Counter(client for _, client, _ in longest).most_common(1)
            reason = f"{self.bound:,} connections are open{self.limits.named('max_connections')}"
            told = {"listener": self.name, "client": most, "reason": reason, "closed": len(longest)}
            log.warning("connections without a request closed", **told)
        return bool(longest)

    def _free(self) -> Iterator[tuple[float, str, Callable[[], None]]]:
        """Since when each connection without a request waits for one, whose it is, and what closes it."""
        for connection in self.open:
            if connection.is_free:
                yield connection.waiting_since, connection.client, connection.abort
        for task, (since, client) in self._shaking.items():
            yield since, client, partial(self._give_up, task)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        del self._shaking[task]
        task.cancel()

    def count(self, refusal: Refusal, client: str) -> None:
        """Tell of a request that was refused, and count it."""
        self.refused[refusal.cause] += 1
        told = {"listener": self.name, "client": client, "status": refusal.status, "reason": refusal.reason}
        log.warning("request refused", **told)

    def tell_bug(self, error: object, client: str) -> None:
        """Tell a bug by its kind and place, and count it: its words may hold what a client sent."""
        self.refused[BUG.cause] += 1
        told: dict[str, Any] = {"listener": self.name, "client": client}
        if isinstance(error, BaseException):
            told |= {"error": type(error).__name__, "traceback": "".join(traceback.format_tb(error.__traceback__))}
        log.error("answering a request failed", **told)

    def _look_later(self) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self._loop.call_later(self.limits.head / LOOKS, self._close_late_ones)

    def _close_late_ones(self) -> None:
        self._look_later()  # first, so that a bug below cannot end it
        now = self._loop.time()
        for connection in [*self.open]:
            try:
                connection.close_if_late(now, self.limits)
            except Exception as bug:
                self.tell_bug(bug, connection.client)

    def pre_shutdown(self) -> None:
        """Take leave of those who have no request under way."""
        if self._look is not None:
            self._look.cancel()
        for task in [*self._shaking]:
            task.cancel()
        super().pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:
        """End all of them; those that are being made are made first. At a stop what is left of the time counts: a
        request has `timeout` to end by itself, and once more when it is cancelled."""
        if self._making:
            await asyncio.wait(self._making)
        await super().shutdown(left(STOP.kept, 2 * (STOP_S if timeout is None else timeout)) / 2)


class AppRunner(web.AppRunner):
    """Runs an aiohttp application within a listener's limits."""

    within: Server
    """Its server, once it is set up."""

    def __init__(self, app: web.Application, name: str, limits: ListenerLimits, **options: Any) -> None:
        super().__init__(app, **options)
        self._name, self._limits = name, limits

    async def _make_server(self) -> Server:
        made = await super()._make_server()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await made.request_handler(request)
            except web.HTTPExpectationFailed:  # aiohttp would answer with what was expected
                self.within.count(ODD_EXPECT, cast("Connection", request.protocol).client)
                return ODD_EXPECT.response()

        self.within = Server(
            handle,
            self._name,
            self._limits,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
        )
        return self.within
