"""The listeners of the admin API: a unix socket, loopback addresses with a token, and addresses for /metrics only.

The socket is open to relay's user, root and `admin.group`.
"""

import asyncio
import grp
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hmac import compare_digest
from itertools import chain
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from relay.admin.control import Control
from relay.admin.handlers.config import ConfigHandlers
from relay.admin.handlers.erasures import ErasureHandlers
from relay.admin.handlers.journal import JournalHandlers
from relay.admin.handlers.parked import ParkedHandlers
from relay.admin.handlers.status import StatusHandlers
from relay.admin.handlers.tables import TableHandlers
from relay.admin.responses import Handler, answer_errors, make_problem
from relay.config import Address, AdminSettings, MetricsSettings, UnixAddress, format_address, takes_ipv4
from relay.listen import Acceptor, AppRunner, ListenerLimits, Server, convert_errors
from relay.socket_path import SOCKET, address_of
from relay.status import ListenerStatus, merge_listeners
from relay.threads import ADMIN

RELOAD_AS_VALUE: Final = "/reload/value"
"""The path at which a worker answers its supervisor."""
BACKLOG: Final = 1024
METRICS_LIMITS: Final = ListenerLimits(answer=30.0)
"""The metrics need no token, so their limits are tight. At the admin API a live tap may stay unread."""
LOOK_S: Final = 1.0
"""Seconds between two checks for a removed unix socket."""
STOP_S: Final = 0.5
"""Seconds that requests under way have to end; a live tap never ends by itself."""
log = structlog.stdlib.get_logger()


Bound = tuple[Sequence[socket.socket], Sequence[socket.socket]]
"""The sockets of `admin.listen`, and those of `metrics.listen`."""


class Admin:
    """The listeners of the admin API."""

    def __init__(
        self,
        control: Control,
        settings: AdminSettings,
        metrics: MetricsSettings,
        socket: Path | None = None,
        bound: Bound | None = None,
    ) -> None:
        """`socket`: the only unix socket of a worker. `bound`: the result of an earlier `bind`."""
        self._control, self._settings, self._metrics, self._bound = control, settings, metrics, bound
        self._api = StatusHandlers(control, self._read_listeners)
        usual = (control.folder / SOCKET, find_runtime_folder(control.folder) / SOCKET)
        self._sockets = usual if socket is None else (socket, socket)
        self._group = settings.group if socket is None else ""
        self._is_worker = socket is not None
        self._local: Server
        self._runners: list[AppRunner] = []
        self._accepting: list[Acceptor] = []
        self.addresses: dict[str, list[str]] = {}
        """The addresses, under "admin" and "metrics"."""

    async def start(self) -> None:
        """Bind all listeners. Raises OSError, and ListenError for an address that cannot be bound."""
        for_admin, for_metrics = self._bound or bind(self._settings, self._metrics)
        kinds = ParkedHandlers, ErasureHandlers, JournalHandlers, ConfigHandlers, TableHandlers
        everything = [*self._api.list_routes(), *chain(*(kind(self._control).list_routes() for kind in kinds))]
        supervised = [web.post(RELOAD_AS_VALUE, self._api.reload_as_value)] if self._is_worker else []
        local = await self._make_server("admin", [*everything, *supervised], [answer_errors], ListenerLimits())
        self._listen([_bind_socket(self._sockets, self._group)], local)
        self._local = local
        tokens = [token.reveal() for token in self._settings.tokens]
        remote = await self._make_server("admin", everything, [answer_errors, make_guard(tokens)], ListenerLimits())
        admin = [f"unix:{self._sockets[1]}", *self._listen(for_admin, remote)]
        scraped = await self._make_server(
            "metrics", [web.get("/metrics", self._api.get_metrics)], [answer_errors], METRICS_LIMITS
        )
        self.addresses = {"admin": admin, "metrics": self._listen(for_metrics, scraped)}

    async def keep_socket(self) -> None:
        """Make the unix socket again whenever somebody has removed it, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if await ADMIN.run(all, map(Path.exists, self._sockets)):
                continue
            try:
                fresh = _bind_socket(self._sockets, self._group)
            except OSError as error:
                log.error("the admin socket was removed, cannot be made anew", error=str(error))
                continue
            before, *others = self._accepting
            self._accepting = others
            before.close()
            self._listen([fresh], self._local)
            self._accepting.insert(0, self._accepting.pop())
            log.warning("the admin socket was removed, is made anew", socket=str(self._sockets[1]))

    def _read_listeners(self) -> Mapping[str, ListenerStatus]:
        """Return the status of its own listeners."""
        found: dict[str, ListenerStatus] = {}
        for server in (runner.within for runner in self._runners):
            one = ListenerStatus(connections=server.connected, refused={**server.refused})
            found = merge_listeners(found, {server.name: one})
        return found

    async def _make_server(
        self, name: str, routes: Sequence[web.RouteDef], middlewares: Sequence[object], limits: ListenerLimits
    ) -> Server:
        app = web.Application(middlewares=middlewares)  # type: ignore[arg-type]
        app.add_routes(routes)
        runner = AppRunner(app, name, limits, handle_signals=False, handler_cancellation=True, shutdown_timeout=STOP_S)
        await runner.setup()
        self._runners.append(runner)
        return runner.within

    def _listen(self, sockets: Iterable[socket.socket], server: Server) -> list[str]:
        """Accept connections for a server; return the addresses."""
        addresses = []
        for one in sockets:
            one.listen(BACKLOG)
            self._accepting.append(Acceptor(server, one))
            addresses.append(format_address(one.getsockname(), "http://"))
        return addresses

    async def stop(self) -> None:
        """Stop listening, and end the taps."""
        for acceptor in self._accepting:
            acceptor.close()
        for runner in self._runners:
            await runner.cleanup()
        for path in self._sockets:
            path.unlink(missing_ok=True)


def bind(settings: AdminSettings, metrics: MetricsSettings) -> Bound:
    """Bind the addresses. Connections wait until an `Admin` has started. Raises ListenError."""
    return [*_bind_at("admin.listen", settings.listen)], [*_bind_at("metrics.listen", metrics.listen)]


def _bind_at(key: str, addresses: Sequence[Address]) -> Iterator[socket.socket]:
    """Yield the sockets of a setting's addresses. Raises ListenError."""
    for address in addresses:
        with convert_errors(key, address):
            if isinstance(address, UnixAddress):
                if address.path.is_socket():
                    address.path.unlink()
                yield _bind_path(address.path)
                continue
            for family, *_, where in dict.fromkeys(
                socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            ):
                yield socket.create_server(where, family=family, dualstack_ipv6=takes_ipv4(address, addresses))


def make_guard(tokens: Sequence[str]) -> object:
    """Make a middleware that only passes requests with one of the tokens."""
    known = [f"Bearer {token}".encode() for token in tokens]

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        offered = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        matches = [compare_digest(offered, one) for one in known]  # all of them: no early exit
        if not any(matches):
            refused = make_problem(401, "a bearer token of admin.tokens is required")
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        return await handler(request)

    return checked


def _bind_socket(paths: tuple[Path, Path], group: str) -> socket.socket:
    """Bind the unix socket at the second path, for a group as well if there is one; link to it from the first path.

    It is never open to others, not even before a chmod. Raises OSError.
    """
    named, path = paths
    for stale in paths:
        stale.unlink(missing_ok=True)  # the state folder is ours alone, so whoever listened there is gone
    mask = os.umask(0o177)
    try:
        bound = _bind_path(path)
    finally:
        os.umask(mask)
    if group:
        open_to_group(path, group)
    if path != named:
        named.symlink_to(path)
    return bound


def open_to_group(path: Path, group: str) -> None:
    """Let the members of a group use the socket. Raises OSError."""
    try:
        number = grp.getgrnam(group).gr_gid
        if path.stat().st_gid != number:  # the unit forbids a chown, and with Group= there is none to do
            os.chown(path, -1, number)
    except KeyError:
        raise OSError(f"admin.group: this machine has no group {group} (groupadd --system {group})") from None
    except OSError as error:
        why = f"relay's user is not in it (Group={group} in the unit): {error.strerror}"
        raise OSError(f"admin.group: the socket cannot be given to the group {group}: {why}") from None
    path.chmod(0o660)


def _bind_path(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        with address_of(path) as address:
            bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return bound


def find_runtime_folder(folder: Path) -> Path:
    """Return systemd's folder for sockets, or else the state folder."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else folder
