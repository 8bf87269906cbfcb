"""The ingest listener: one path per source, health, readiness, and the contract itself."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Final

from aiohttp import web

from relay.api import Decoded, Source
from relay.config import IngestSettings, TlsSettings
from relay.ingest.forward import First
from relay.ingest.intake import DRAIN_RETRY_AFTER_S, FULL_RETRY_AFTER_S, Intake
from relay.ingest.listeners import bind, show
from relay.ingest.pressure import Pressure
from relay.ingest.problem import Problem, busy
from relay.ingest.tally import Tally
from relay.ingest.tls import Certificates
from relay.journal import Journal, SourceBooks, State, forget_seen

STOP_S: Final = 5.0
"""Seconds that requests under way have to end once the listener is closed."""


class Ingest:
    """HTTP in, for all sources of a configuration."""

    def __init__(
        self,
        sources: Sequence[Source],
        settings: IngestSettings,
        journal: Journal,
        state: State,
        first: First | None = None,
    ) -> None:
        """`first`: the worker that keeps what has to be in one journal, if that is not this one."""
        pressure = Pressure(settings.max_in_flight)
        self._settings, self._journal, self._state = settings, journal, state
        self._sources = sources
        self._tally = Tally(state, self._books)
        self._intakes = {
            source.name: Intake(source, settings, pressure, journal, state, self._tally.soon, first)
            for source in sources
        }
        self._gone: list[SourceBooks] = []
        self._certificates: Certificates | None = None
        self._ready = False
        self._runner: web.AppRunner | None = None

    @property
    def keepers(self) -> dict[str, Callable[[Decoded], Awaitable[int]]]:
        """For each source what keeps events for another worker."""
        return {name: intake.keep for name, intake in self._intakes.items()}

    async def start(self, sockets: Sequence[socket.socket] | None = None) -> list[str]:
        """Listen on these sockets or, without any, on the configured addresses; return where.

        Raises OSError if an address is taken, TlsError."""
        if self._settings.tls is not None:
            self._certificates = Certificates(self._settings.tls)
        await self._restore()
        self._runner = web.AppRunner(
            self._app(), access_log=None, auto_decompress=False, handle_signals=False, shutdown_timeout=STOP_S
        )
        await self._runner.setup()
        listening = bind(self._settings.listen)[0] if sockets is None else sockets
        for one in listening:
            tls = self._certificates and one.family != socket.AF_UNIX and self._certificates.context
            await web.SockSite(self._runner, one, ssl_context=tls or None).start()
        self._ready = True
        return show(listening, self._settings)

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

    def drain(self) -> None:
        """Say not ready, and 503 to whoever sends from now on."""
        self._ready = False
        for intake in self._intakes.values():
            intake.draining = True

    async def stop(self) -> None:
        """Stop listening, answer the requests under way, and save what the sources count."""
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
