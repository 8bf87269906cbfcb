"""The connections of one listener: counts them, makes room for new ones, and closes late ones.

At the limit the connections that have waited longest without a request are closed, a portion at a time, so that it
costs little however fast strangers connect. If all have a request under way, new connections are answered 503.
"""

import asyncio
import heapq
import socket
import ssl
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast, get_args

import structlog
from aiohttp import web

from relay.listen.connection import Connection, describe_client
from relay.listen.limits import LINE_BYTES, ListenerLimits, bound_connections
from relay.listen.refusal import BUG, ODD_EXPECT, Cause, Refusal
from relay.stop import STOP, count_seconds_left

PORTIONS: Final = 16
"""At the limit, one in so many connections is closed at a time."""
LOOKS: Final = 8
"""Checks for late connections within the time that they have."""
TLS_END_S: Final = 5.0
"""Seconds for a client to end TLS."""
RETRY_AFTER_S: Final = 5
STOP_S: Final = 5.0
"""Default seconds for requests under way to end."""
log = structlog.stdlib.get_logger()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server(web.Server):
    """aiohttp's server within limits, with the connections of a listener."""

    def __init__(self, handler: Handler, name: str, limits: ListenerLimits, **options: Any) -> None:
        """`name`: for log and metrics. `options`: aiohttp's, of its server and of each connection."""
        handling = {key: options.pop(key) for key in ("request_factory", "handler_cancellation") if key in options}
        super().__init__(handler, **handling)
        self.name = name
        self._check_late: asyncio.TimerHandle | None = None
        self.limits = limits
        self._options = options
        self.open: dict[Connection, None] = {}
        """Open connections, the oldest first."""
        self._shaking: dict[asyncio.Task[None], tuple[float, str]] = {}
        """Connections in their TLS handshake: since when, and their client."""
        self._making: set[asyncio.Task[None]] = set()
        """Connections without TLS that are being made. uvloop forgets a connection that is cancelled meanwhile."""
        self.refused = Counter[str](dict.fromkeys(get_args(Cause), 0))
        """Connections refused or closed since the start."""

    @property
    def limits(self) -> ListenerLimits:
        """The limits of connections. They may change while it listens."""
        return self._limits

    @limits.setter
    def limits(self, limits: ListenerLimits) -> None:
        self._limits = limits
        self.bound = bound_connections(limits.connections)
        late = f"no complete request came within {limits.head:g} s{limits.name_setting('read_timeout')}"
        unread = f"the answer was left unread for {limits.head:g} s{limits.name_setting('read_timeout')}"
        full = (
            f"{self.bound:,} connections are open, all with a request under way{limits.name_setting('max_connections')}"
        )
        self.late, self.unread = Refusal("timeout", 408, late), Refusal("timeout", 408, unread)
        self.full = Refusal("full", 503, full, RETRY_AFTER_S)
        if self._check_late is not None:
            self._schedule_check()

    @property
    def connected(self) -> int:
        """Number of connections."""
        return len(self.open) + len(self._shaking) + len(self._making)

    @property
    def is_settling(self) -> bool:
        """Return whether accepted connections must be made before more can be accepted."""
        return bool(self._making) and self.connected >= self.bound

    def __call__(self, address: object = None, connecting: asyncio.Task[None] | None = None) -> Connection:
        """Make the HTTP protocol of a new connection."""
        if self._check_late is None:
            self._schedule_check()
        limits = {"keepalive_timeout": self.limits.idle, "max_line_size": LINE_BYTES, "max_field_size": LINE_BYTES}
        return Connection(
            self, address, connecting, {"loop": self._loop, "access_log": None, **limits, **self._options}
        )

    def take(self, accepted: socket.socket, address: object, tls: ssl.SSLContext | None) -> None:
        """Serve an accepted connection, or refuse it."""
        if not self.has_room():
            self.count_refusal(self.full, describe_client(address))
            with accepted, suppress(OSError):
                if tls is None:
                    accepted.send(self.full.answer)
            return
        task = self._loop.create_task(self._connect(accepted, address, tls), name=f"{self.name}: a new connection")
        if tls is None:
            self._making.add(task)
        else:
            self._shaking[task] = self._loop.time(), describe_client(address)
        task.add_done_callback(lambda done: self._end_connecting(done, accepted))

    async def _connect(self, accepted: socket.socket, address: object, tls: ssl.SSLContext | None) -> None:
        """Start to serve a connection. The loop closes its socket if that fails."""
        limits = {"ssl": tls, "ssl_handshake_timeout": self.limits.head, "ssl_shutdown_timeout": TLS_END_S}
        speak = partial(self, address, asyncio.current_task())
        try:
            await self._loop.connect_accepted_socket(speak, accepted, **(limits if tls else {}))  # type: ignore[arg-type]
        except ConnectionAbortedError:
            self.count_refusal(self.late, describe_client(address))
        except OSError:  # a handshake that failed was told where it failed
            self.refused["malformed"] += 1

    def count_made(self, connection: Connection) -> None:
        """Count a connection that speaks HTTP now."""
        if connection.connecting is not None:
            self._count_out(connection.connecting)
        connection.connecting = None
        self.open[connection] = None

    def _count_out(self, task: asyncio.Task[None]) -> None:
        self._shaking.pop(task, None)
        self._making.discard(task)

    def _end_connecting(self, task: asyncio.Task[None], accepted: socket.socket) -> None:
        self._count_out(task)
        if task.cancelled():
            accepted.close()

    def has_room(self) -> bool:
        """Return whether there is room for another connection. Closes some unused ones if needed."""
        if self.connected < self.bound:
            return True
        free: list[tuple[float, str, Connection | asyncio.Task[None]]]
        free = [(one.waiting_since, one.client, one) for one in self.open if one.is_free]
        free += ((since, client, task) for task, (since, client) in self._shaking.items())
        longest = heapq.nsmallest(max(1, self.bound // PORTIONS), free, key=lambda one: one[0])
        for _, _, unused in longest:
            if isinstance(unused, Connection):
                unused.abort()
            else:
                del self._shaking[unused]
                unused.cancel()
        self.refused["evicted"] += len(longest)
        if longest:
            ((most, _),) = Counter(client for _, client, _ in longest).most_common(1)
            reason = f"{self.bound:,} connections are open{self.limits.name_setting('max_connections')}"
            told = {"listener": self.name, "client": most, "reason": reason, "closed": len(longest)}
            log.warning("connections without a request closed", **told)
        return bool(longest)

    def count_refusal(self, refusal: Refusal, client: str) -> None:
        """Log a refused request, and count it."""
        self.refused[refusal.cause] += 1
        told = {"listener": self.name, "client": client, "status": refusal.status, "reason": refusal.reason}
        log.warning("request refused", **told)

    def log_bug(self, error: object, client: str) -> None:
        """Log a bug by kind and place, and count it. Its message may hold what a client sent."""
        self.refused[BUG.cause] += 1
        told: dict[str, Any] = {"listener": self.name, "client": client}
        if isinstance(error, BaseException):
            told |= {"error": type(error).__name__, "traceback": "".join(traceback.format_tb(error.__traceback__))}
        log.error("answering a request failed", **told)

    def _schedule_check(self) -> None:
        if self._check_late is not None:
            self._check_late.cancel()
        self._check_late = self._loop.call_later(self.limits.head / LOOKS, self._close_late_ones)

    def _close_late_ones(self) -> None:
        self._schedule_check()  # first, so that a bug below cannot end it
        now = self._loop.time()
        for connection in [*self.open]:
            try:
                connection.close_if_late(now, self.limits)
            except Exception as bug:
                self.log_bug(bug, connection.client)

    def pre_shutdown(self) -> None:
        """Close the connections without a request under way."""
        if self._check_late is not None:
            self._check_late.cancel()
        for task in [*self._shaking]:
            task.cancel()
        super().pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:
        """End all connections, after those that are being made.

        At a stop the rest of its time counts: a request has `timeout` to end by itself, and once more after it is
        cancelled.
        """
        if self._making:
            await asyncio.wait(self._making)
        await super().shutdown(count_seconds_left(STOP.kept, 2 * (STOP_S if timeout is None else timeout)) / 2)


class AppRunner(web.AppRunner):
    """Runs an aiohttp application within a listener's limits."""

    within: Server
    """Its server, after the setup."""

    def __init__(self, app: web.Application, name: str, limits: ListenerLimits, **options: Any) -> None:
        super().__init__(app, **options)
        self._name, self._limits = name, limits

    async def _make_server(self) -> Server:
        made = await super()._make_server()

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await made.request_handler(request)
            except web.HTTPExpectationFailed:  # aiohttp would answer with what was expected
                self.within.count_refusal(ODD_EXPECT, cast("Connection", request.protocol).client)
                return ODD_EXPECT.make_response()

        self.within = Server(
            handle,
            self._name,
            self._limits,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
        )
        return self.within
