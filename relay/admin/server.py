"""Where the admin API listens: a unix socket for relay's user, root and `admin.group`, loopback addresses with a token,
and addresses that answer /metrics and nothing else."""

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
from relay.admin.handlers.erasures import Erasing
from relay.admin.handlers.journal import JournalHandlers
from relay.admin.handlers.parked import ParkedHandlers
from relay.admin.handlers.status import StatusHandlers
from relay.admin.responses import Handler, problem, problems
from relay.config import Address, AdminSettings, MetricsSettings, UnixAddress, shown, takes_ipv4
from relay.listen import Acceptor, AppRunner, ListenerLimits, Server, at
from relay.socket_path import address_of
from relay.status import ListenerStatus, both_listeners
from relay.threads import ADMIN

SOCKET: Final = "admin.sock"
RELOAD_AS_VALUE: Final = "/reload/value"
"""Where a worker answers its supervisor."""
BACKLOG: Final = 1024
METRICS_LIMITS: Final = ListenerLimits(answer=30.0)
"""Whoever reaches the metrics needs no token; at the admin API, a live tap may be left unread."""
LOOK_S: Final = 1.0
"""How soon it is noticed that the unix socket was removed."""
STOP_S: Final = 0.5
"""Seconds that requests under way have to end; a live tap never does by itself."""
log = structlog.stdlib.get_logger()


Bound = tuple[Sequence[socket.socket], Sequence[socket.socket]]
"""The sockets at the addresses of `admin.listen`, and at those of `metrics.listen`."""


class Admin:
    """All its listeners."""

    def __init__(
        self,
        control: Control,
        settings: AdminSettings,
        metrics: MetricsSettings,
        socket: Path | None = None,
        bound: Bound | None = None,
    ) -> None:
        """`socket`: the only unix socket to listen on, and not the usual one; for a worker. `bound`: what `bind` has
        returned, if that was to be done before."""
        self._control, self._settings, self._metrics, self._bound = control, settings, metrics, bound
        self._api = StatusHandlers(control, self._look)
        usual = (control.folder / SOCKET, runtime_folder(control.folder) / SOCKET)
        self._sockets = usual if socket is None else (socket, socket)
        self._group = settings.group if socket is None else ""
        self._is_worker = socket is not None
        self._local: Server
        self._runners: list[AppRunner] = []
        self._accepting: list[Acceptor] = []
        self.addresses: dict[str, list[str]] = {}
        """Where it listens, as "admin" and as "metrics"."""

    async def start(self) -> None:
        """Bind all of them. Raises OSError, ListenError for an address that cannot be had."""
        for_admin, for_metrics = self._bound or bind(self._settings, self._metrics)
        others = [kind(self._control).routes() for kind in (ParkedHandlers, Erasing, JournalHandlers)]
        everything = [*self._api.routes(), *chain(*others)]
        supervised = [web.post(RELOAD_AS_VALUE, self._api.reload_as_value)] if self._is_worker else []
        local = await self._server("admin", [*everything, *supervised], [problems], ListenerLimits())
        self._listen([_bound(self._sockets, self._group)], local)
        self._local = local
        tokens = [token.reveal() for token in self._settings.tokens]
        remote = await self._server("admin", everything, [problems, guard(tokens)], ListenerLimits())
        admin = [f"unix:{self._sockets[1]}", *self._listen(for_admin, remote)]
        scraped = await self._server("metrics", [web.get("/metrics", self._api.metrics)], [problems], METRICS_LIMITS)
        self.addresses = {"admin": admin, "metrics": self._listen(for_metrics, scraped)}

    async def keep_socket(self) -> None:
        """Make the unix socket anew whenever somebody has removed it, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if all(await ADMIN.run(_exist, self._sockets)):
                continue
            try:
                fresh = _bound(self._sockets, self._group)
            except OSError as error:
                log.error("the admin socket was removed, cannot be made anew", error=str(error))
                continue
            before, *others = self._accepting
            self._accepting = others
            before.close()
            self._listen([fresh], self._local)
            self._accepting.insert(0, self._accepting.pop())
            log.warning("the admin socket was removed, is made anew", socket=str(self._sockets[1]))

    def _look(self) -> Mapping[str, ListenerStatus]:
        """How its own listeners are."""
        found: dict[str, ListenerStatus] = {}
        for server in (runner.within for runner in self._runners):
            one = ListenerStatus(connections=server.connected, refused={**server.refused})
            found = both_listeners(found, {server.name: one})
        return found

    async def _server(
        self, name: str, routes: Sequence[web.RouteDef], middlewares: Sequence[object], limits: ListenerLimits
    ) -> Server:
        app = web.Application(middlewares=middlewares)  # type: ignore[arg-type]
        app.add_routes(routes)
        runner = AppRunner(app, name, limits, handle_signals=False, handler_cancellation=True, shutdown_timeout=STOP_S)
        await runner.setup()
        self._runners.append(runner)
        return runner.within

    def _listen(self, sockets: Iterable[socket.socket], server: Server) -> list[str]:
        """Accept connections for a server; return where."""
        addresses = []
        for one in sockets:
            one.listen(BACKLOG)
            self._accepting.append(Acceptor(server, one))
            addresses.append(shown(one.getsockname(), "http://"))
        return addresses

    async def stop(self) -> None:
        """Stop listening; taps end."""
        for acceptor in self._accepting:
            acceptor.close()
        for runner in self._runners:
            await runner.cleanup()
        for path in self._sockets:
            path.unlink(missing_ok=True)


def bind(settings: AdminSettings, metrics: MetricsSettings) -> Bound:
    """Take the addresses; whoever connects waits until an `Admin` has started. Raises ListenError."""
    return [*_at("admin.listen", settings.listen)], [*_at("metrics.listen", metrics.listen)]


def _at(key: str, addresses: Sequence[Address]) -> Iterator[socket.socket]:
    """What listens at the addresses of a setting. Raises ListenError."""
    for address in addresses:
        with at(key, address):
            if isinstance(address, UnixAddress):
                if address.path.is_socket():
                    address.path.unlink()
                yield _bound_at(address.path)
                continue
            for family, *_, where in dict.fromkeys(
                socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            ):
                yield socket.create_server(where, family=family, dualstack_ipv6=takes_ipv4(address, addresses))


def guard(tokens: Sequence[str]) -> object:
    """Let only requests through that carry one of the tokens."""
    known = [f"Bearer {token}".encode() for token in tokens]

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        offered = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        matches = [compare_digest(offered, one) for one in known]  # all of them: no early exit
        if not any(matches):
            refused = problem(401, "a bearer token of admin.tokens is required")
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        return await handler(request)

    return checked


def _bound(paths: tuple[Path, Path], group: str) -> socket.socket:
    """The unix socket at the second path, for a group as well if one is named; the first path, in the state folder,
    leads there. Never open to others, not even for the moment before a chmod. Raises OSError."""
    named, path = paths
    for stale in paths:
        stale.unlink(missing_ok=True)  # the state folder is ours alone, so whoever listened there is gone
    mask = os.umask(0o177)
    try:
        bound = _bound_at(path)
    finally:
        os.umask(mask)
    if group:
        _open_to(path, group)
    if path != named:
        named.symlink_to(path)
    return bound


def _open_to(path: Path, group: str) -> None:
    """Let the members of a group use a socket of ours. Raises OSError."""
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


def _exist(paths: Sequence[Path]) -> list[bool]:
    return [path.exists() for path in paths]


def _bound_at(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        with address_of(path) as address:
            bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return bound


def runtime_folder(folder: Path) -> Path:
    """Where systemd wants sockets, or the state folder."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else folder
