"""Where the admin API listens: a unix socket that only relay's user and root can use, loopback addresses with a token,
and addresses that answer /metrics and nothing else."""

import os
import socket
from collections.abc import Sequence
from hmac import compare_digest
from itertools import chain
from pathlib import Path
from typing import Final

from aiohttp import web

from relay.admin.answers import Handler, problem, problems
from relay.admin.api import Api
from relay.admin.control import Control
from relay.admin.erasing import Erasing
from relay.admin.parking import Parking
from relay.admin.reading import Reading
from relay.config import Address, AdminSettings, MetricsSettings, UnixAddress, shown

SOCKET: Final = "admin.sock"
STOP_S: Final = 0.5
"""Seconds that requests under way have to end; a live tap never does by itself."""


class Admin:
    """All its listeners."""

    def __init__(
        self, control: Control, settings: AdminSettings, metrics: MetricsSettings, socket: Path | None = None
    ) -> None:
        """`socket`: the only unix socket to listen on, and not the usual one; for a worker."""
        self._control, self._settings, self._metrics = control, settings, metrics
        self._api = Api(control)
        usual = (control.folder / SOCKET, _runtime_folder(control.folder) / SOCKET)
        self._sockets = usual if socket is None else (socket, socket)
        self._runners: list[web.AppRunner] = []
        self.addresses: dict[str, list[str]] = {}
        """Where it listens, as "admin" and as "metrics"."""

    async def start(self) -> None:
        """Bind all of them. Raises OSError."""
        others = [kind(self._control).routes() for kind in (Parking, Erasing, Reading)]
        everything = [*self._api.routes(), *chain(*others)]
        local = await self._runner(everything, [problems])
        await web.SockSite(local, _bound(self._sockets)).start()
        tokens = [token.reveal() for token in self._settings.tokens]
        await self._listen(self._settings.listen, await self._runner(everything, [problems, guard(tokens)]))
        metrics = await self._runner([web.get("/metrics", self._api.metrics)], [problems])
        await self._listen(self._metrics.listen, metrics)
        *admin, _ = self._runners
        self.addresses = {"admin": _shown(*admin), "metrics": _shown(metrics)}

    async def _runner(self, routes: Sequence[web.RouteDef], middlewares: Sequence[object]) -> web.AppRunner:
        app = web.Application(middlewares=middlewares)  # type: ignore[arg-type]
        app.add_routes(routes)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=STOP_S
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def _listen(self, addresses: Sequence[Address], runner: web.AppRunner) -> None:
        for address in addresses:
            if isinstance(address, UnixAddress):
                await web.UnixSite(runner, str(address.path)).start()
            else:
                await web.TCPSite(runner, address.host, address.port).start()

    async def stop(self) -> None:
        """Stop listening; taps end."""
        for runner in self._runners:
            await runner.cleanup()
        for path in self._sockets:
            path.unlink(missing_ok=True)


def _shown(*runners: web.AppRunner) -> list[str]:
    return [shown(address, "http://") for runner in runners for address in runner.addresses]


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


def _bound(paths: tuple[Path, Path]) -> socket.socket:
    """The unix socket at the second path; the first one, in the state folder, leads there. Never open to others, not
    even for the moment before a chmod."""
    named, path = paths
    for stale in paths:
        stale.unlink(missing_ok=True)  # the state folder is ours alone, so whoever listened there is gone
    bound = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise OSError(f"{path}: {error}") from error
    finally:
        os.umask(mask)
    if path != named:
        named.symlink_to(path)
    return bound


def _runtime_folder(folder: Path) -> Path:
    """Where systemd wants sockets, or the state folder."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else folder
