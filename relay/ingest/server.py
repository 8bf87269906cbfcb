"""The ingest listener: one path per source, health, readiness, and the contract itself."""

import asyncio
import socket
import ssl
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from aiohttp import web

from relay.api import Source
from relay.config import Address, IngestSettings, TlsSettings, UnixAddress
from relay.ingest.intake import DRAIN_RETRY_AFTER_S, FULL_RETRY_AFTER_S, Intake
from relay.ingest.pressure import Pressure
from relay.ingest.problem import Problem, busy
from relay.ingest.tally import Tally
from relay.ingest.tls import Certificates
from relay.journal import Journal, SourceBooks, State, forget_seen

STOP_S: Final = 5.0
"""Seconds that requests under way have to end once the listener is closed."""


LINGER_S: Final = 0.25
"""Seconds that the last who connected to an inherited socket have to send their request and be answered."""


class Ingest:
    """HTTP in, for all sources of a configuration."""

    def __init__(self, sources: Sequence[Source], settings: IngestSettings, journal: Journal, state: State) -> None:
        pressure = Pressure(settings.max_in_flight)
        self._settings, self._journal, self._state = settings, journal, state
        self._sources = sources
        self._tally = Tally(state, self._books)
        self._intakes = {
            source.name: Intake(source, settings, pressure, journal, state, self._tally.soon) for source in sources
        }
        self._gone: list[SourceBooks] = []
        self._certificates: Certificates | None = None
        self._ready = False
        self._runner: web.AppRunner | None = None
        self._inherited: list[web.SockSite] = []

    @property
    def intakes(self) -> Mapping[str, Intake]:
        """The sources' intakes, by name: what each has taken and refused."""
        return self._intakes

    async def start(self, inherited: Sequence[socket.socket] = ()) -> list[str]:
        """Listen on the sockets that were passed to the process, or else bind those of the configuration; return the
        addresses. Raises OSError if one is taken, TlsError."""
        if self._settings.tls is not None:
            self._certificates = Certificates(self._settings.tls)
        context = self._certificates.context if self._certificates else None
        await self._restore()
        self._runner = web.AppRunner(
            self._app(), access_log=None, auto_decompress=False, handle_signals=False, shutdown_timeout=STOP_S
        )
        await self._runner.setup()
        self._inherited = [web.SockSite(self._runner, listener, ssl_context=context) for listener in inherited]
        for site in self._inherited:
            await site.start()
        if not inherited:
            await self._bind(self._runner, context)
        self._ready = True
        return [_show(address, "https" if context else "http") for address in self._runner.addresses]

    async def _bind(self, runner: web.AppRunner, context: ssl.SSLContext | None) -> None:
        for address in self._settings.listen:
            await _site(runner, address, context).start()
            if isinstance(address, UnixAddress):
                address.path.chmod(0o666)  # as open as a local port; who may reach it is up to its folder

    async def _restore(self) -> None:
        """Take up what the sources counted before, and let go of what no source here needs."""
        for name, books in (await self._state.sources()).items():
            if name in self._intakes:
                self._intakes[name].restore(books)
            else:
                self._gone.append(replace(books, refusals=None))  # whoever sends there now is told 404
        dedupes = [source.name for source in self._sources if source.settings.dedupe]
        await asyncio.to_thread(forget_seen, self._state.folder, dedupes)

    def _books(self) -> list[SourceBooks]:
        return [*(intake.books for intake in self._intakes.values()), *self._gone]

    async def reload_tls(self, settings: TlsSettings | None = None) -> bool:
        """Serve new connections with the certificates as they are now, in the files or by other settings.

        Tells whether anything is new. Raises TlsError, and then all stays as it was.
        """
        return self._certificates is not None and await self._certificates.reload(settings)

    async def watch_tls(self) -> None:
        """Serve renewed certificates as they come, until cancelled."""
        if self._certificates is not None:
            await self._certificates.watch()

    async def drain(self) -> None:
        """Say not ready, and 503 to whoever sends from now on. Who connects to an inherited socket from now on waits
        in it for the next process."""
        self._ready = False
        for intake in self._intakes.values():
            intake.draining = True
        for site in self._inherited:
            await site.stop()

    async def stop(self) -> None:
        """Stop listening, answer the requests under way, and save what the sources count."""
        if self._inherited:
            await asyncio.sleep(LINGER_S)
        if self._runner is not None:
            await self._runner.cleanup()
        for intake in self._intakes.values():
            await intake.close()
        await self._tally.close()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        app.router.add_get("/openapi.yaml", self._contract)
        for source in self._sources:
            app.router.add_route("*", source.settings.path, self._intakes[source.name].handle)
        app.router.add_route("*", "/{rest:.*}", _unknown)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readiness(self, _: web.Request) -> web.Response:
        if not self._ready:
            return busy("relay is stopping", DRAIN_RETRY_AFTER_S).response()
        if reason := self._journal.refusing:
            return busy(reason, FULL_RETRY_AFTER_S).response()
        return web.json_response({"status": "ready"})

    async def _contract(self, _: web.Request) -> web.Response:
        text = contract([source.settings.path for source in self._sources])
        return web.Response(text=text, content_type="application/yaml")


def contract(paths: Sequence[str]) -> str:
    """The OpenAPI document, with the paths that the sources really have."""
    text = files("relay.ingest").joinpath("openapi.yaml").read_text("utf-8")
    return text + "".join(f'  {path}:\n    $ref: "#/components/pathItems/source"\n' for path in paths)


async def _unknown(request: web.Request) -> web.Response:
    return Problem(404, f"no source has the path {request.path}").response()


def _site(runner: web.AppRunner, address: Address, context: ssl.SSLContext | None) -> web.BaseSite:
    if isinstance(address, UnixAddress):
        _remove_stale_socket(address.path)
        return web.UnixSite(runner, str(address.path))
    return web.TCPSite(runner, address.host, address.port, backlog=1024, ssl_context=context)


def _remove_stale_socket(path: Path) -> None:
    """A socket file that nobody listens on is left over from a crash."""
    if not (path.exists() and stat.S_ISSOCK(path.stat().st_mode)):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _show(address: object, scheme: str) -> str:
    match address:
        case str():
            return f"unix:{address}"
        case (str() as host, int() as port, *_):
            return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    return str(address)
