"""The ingest listener: one path per source, health, readiness, and the contract itself."""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Final

import structlog
from aiohttp import web

from relay.api import Decoded, Source
from relay.api.internal import Validity
from relay.config import IngestSettings, TlsSettings
from relay.guests import is_same
from relay.ingest.client_address import whence
from relay.ingest.duplicates import Duplicates
from relay.ingest.intake import DRAIN_RETRY_AFTER_S, FULL_RETRY_AFTER_S, Intake
from relay.ingest.listeners import bind, show
from relay.ingest.paths import harmless, meant
from relay.ingest.pressure import Pressure
from relay.ingest.problem import Problem, busy
from relay.ingest.source_saver import SourceSaver
from relay.ingest.tls import Certificates
from relay.ingest.to_first_worker import First
from relay.journal import Journal
from relay.listen import Acceptor, ListenerLimits, Server
from relay.state import SourceLedger, State, forget_seen
from relay.threads import ADMIN

STOP_S: Final = 5.0
"""Seconds that requests under way have to end once the listener is closed."""
LOOK_AFTER_S: Final = 60.0
LINGER_S: Final = 0.25
"""Seconds that the last who connected to an inherited socket have to send their request and be answered."""
OWN_ITEMS: Final = frozenset({"heap_segments"})
"""The source types that the OpenAPI document has a path item of their own for."""
log = structlog.stdlib.get_logger()


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
        self._settings, self._journal, self._state, self._first = settings, journal, state, first
        self._pressure = Pressure(settings.max_in_flight)
        self._source_saver = SourceSaver(state, self._ledgers)
        self._intakes: dict[str, Intake] = {}
        self._paths: dict[str, Intake] = {}
        self._duplicates: set[Duplicates] = set()
        self._gone: list[SourceLedger] = []
        self.strays = 0
        """Requests to paths that no source has, since the start."""
        self._take(sources)
        self._certificates: Certificates | None = None
        self._ready = False
        self._server: Server | None = None
        self._runner: web.ServerRunner | None = None
        self._accepting: list[Acceptor] = []
        self._outlived = False
        """Whether the next process goes on with the sockets."""

    @property
    def intakes(self) -> Mapping[str, Intake]:
        """The sources' intakes, by name: what each has taken and refused."""
        return self._intakes

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._server.connected if self._server else 0

    @property
    def refused(self) -> Mapping[str, int]:
        """Connections that came to no request, by cause, since the start."""
        return {**self._server.refused} if self._server else {}

    def source(self, name: str) -> Source:
        """The source of this name. Raises LookupError."""
        return self._intakes[name].source

    async def keep(self, source: str, decoded: Decoded) -> int:
        """Put events on disk that came to another worker; return how many were no duplicates.

        Raises Unavailable, LookupError (no such source here)."""
        return await self._intakes[source].keep(decoded)

    def change(self, sources: Sequence[Source], settings: IngestSettings) -> None:
        """Go over to other sources and limits, between two requests. Sources of which nothing has changed go on as they
        are; requests under way are answered by the source they came to."""
        if settings == self._settings:
            known = {name: intake.source for name, intake in self._intakes.items()}
            sources = [_same(known.get(source.name), source) for source in sources]
        self._settings = settings
        self._pressure.limit = settings.max_in_flight
        if self._server is not None:
            self._server.limits = limits_of(settings)
        self._take(sources)

    def _take(self, sources: Sequence[Source]) -> None:
        before = self._intakes
        self._intakes = {source.name: self._intake(source) for source in sources}
        self._paths = {intake.source.settings.path: intake for intake in self._intakes.values()}
        gone = [intake for name, intake in before.items() if self._intakes.get(name) is not intake]
        self._gone += [replace(one.ledger, refusals=None) for one in gone if one.source.name not in self._intakes]

    def _intake(self, source: Source) -> Intake:
        """The source's intake as it is, or a new one that goes on with what it counted."""
        before = self._intakes.get(source.name)
        if before is not None and before.source is source:
            return before
        fresh = Intake(
            source, self._settings, self._pressure, self._journal, self._state, self._source_saver.soon, self._first
        )
        if before is not None:
            fresh.follow(before)
        if fresh.duplicates is not None:
            self._duplicates.add(fresh.duplicates)
        return fresh

    async def start(self, sockets: Sequence[socket.socket] | None = None, *, outlived: bool = True) -> list[str]:
        """Listen on the sockets that were passed to the process, or else on the configured addresses; return where.

        `outlived`: the next process goes on with them. Raises ListenError if an address cannot be had, TlsError."""
        if self._settings.tls is not None:
            self._certificates = Certificates(self._settings.tls)
        await self._restore()
        self._server = Server(self._dispatch, "ingest", limits_of(self._settings), auto_decompress=False)
        if self._server.bound < self._settings.max_connections:
            advice = "raise LimitNOFILE= in the unit (ulimit -n in a shell): senders get half of it"
            log.warning("fewer connections than ingest.max_connections", connections=self._server.bound, advice=advice)
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=STOP_S)
        await self._runner.setup()
        listening = bind(self._settings.listen)[0] if sockets is None else sockets
        self._accepting = [Acceptor(self._server, one, self._tls_of(one)) for one in listening]
        self._outlived = sockets is not None and outlived
        self._ready = True
        return show(listening, self._settings)

    def _tls_of(self, one: socket.socket) -> ssl.SSLContext | None:
        return self._certificates.context if self._certificates and one.family != socket.AF_UNIX else None

    async def _restore(self) -> None:
        """Take up what the sources counted before, and let go of what no source here needs."""
        for name, ledger in (await self._state.sources()).items():
            if name in self._intakes:
                self._intakes[name].restore(ledger)
            else:
                self._gone.append(replace(ledger, refusals=None))  # whoever sends there now is told 404
        for name, memory in (await self._state.memories()).items():
            if name in self._intakes:
                self._intakes[name].calls.recall(memory)
        dedupes = [name for name, intake in self._intakes.items() if intake.source.settings.dedupe]
        await ADMIN.run(forget_seen, self._state.folder, dedupes)

    def _ledgers(self) -> list[SourceLedger]:
        return [*(intake.ledger for intake in self._intakes.values()), *self._gone]

    async def reload_tls(self, settings: TlsSettings | None = None) -> bool:
        """Serve new connections with the certificates as they are now, in the files or by other settings.

        Tells whether anything is new. Raises TlsError, and then all stays as it was.
        """
        return self._certificates is not None and await self._certificates.reload(settings)

    @property
    def certificate(self) -> Validity | None:
        """When the certificate is good that is served; None: there is none."""
        return self._certificates.validity if self._certificates else None

    async def watch_tls(self) -> None:
        """Serve renewed certificates as they come, until cancelled."""
        if self._certificates is not None:
            await self._certificates.watch()

    async def look_after_sources(self) -> None:
        """Have the sources say what is overdue, again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            for intake in [*self._intakes.values()]:
                await intake.look_after()

    async def drain(self) -> None:
        """Say not ready, and 503 to whoever sends from now on. Who connects to an inherited socket from now on waits
        in it for the next process."""
        self._ready = False
        for intake in self._intakes.values():
            intake.draining = True
        if self._outlived:
            self._accept_no_more()

    def _accept_no_more(self) -> None:
        for acceptor in self._accepting:
            acceptor.close()
        self._accepting = []

    async def stop(self) -> None:
        """Stop listening, answer the requests under way, and save what the sources count."""
        if self._outlived:
            await asyncio.sleep(LINGER_S)
        self._accept_no_more()
        if self._runner is not None:
            await self._runner.cleanup()
        for intake in self._intakes.values():
            intake.close()
        for duplicates in self._duplicates:
            await duplicates.close()
        await self._source_saver.close()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request on any path. Without a router: a table of paths is all it takes."""
        if (intake := self._paths.get(request.path)) is not None:
            return await intake.handle(request)
        own = {"/healthz": self._health, "/readyz": self._readiness, "/openapi.yaml": self._contract}.get(request.path)
        if own is None:
            return self._stray(request)
        if request.method not in ("GET", "HEAD"):
            return Problem(405, "this is only to be read", Allow="GET, HEAD").response(request)
        return await own(request)

    def _stray(self, request: web.BaseRequest) -> web.Response:
        """Nobody knows whose request this is: perhaps that of a sender whose source was removed or has moved."""
        self.strays += 1
        near = meant(request.path, self._paths)
        advice = "" if near is None else f"; the path of source {self._paths[near].source.name} is {near}"
        problem = Problem(404, f"no source has the path {harmless(request.path)}{advice}")
        if request.method == "POST":
            by = whence(request, self._settings.trusted_proxies)
            log.warning("request refused", client=by, status=problem.status, reason=problem.detail)
        return problem.response(request)

    async def _health(self, _: web.BaseRequest) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readiness(self, request: web.BaseRequest) -> web.Response:
        if not self._ready:
            return busy("relay is stopping", DRAIN_RETRY_AFTER_S).response(request)
        if reason := self._journal.refusing:
            return busy(reason, FULL_RETRY_AFTER_S).response(request)
        return web.json_response({"status": "ready"})

    async def _contract(self, _: web.BaseRequest) -> web.Response:
        text = contract({path: intake.source for path, intake in self._paths.items()})
        return web.Response(text=text, content_type="application/yaml")


def limits_of(settings: IngestSettings) -> ListenerLimits:
    """What the listener grants each connection."""
    return ListenerLimits(
        head=settings.read_timeout,
        idle=settings.idle_timeout,
        answer=settings.read_timeout,
        connections=settings.max_connections,
        table="ingest",
    )


def _same(known: Source | None, source: Source) -> Source:
    """The one that is known already, if the other one is no different."""
    same = known is not None and type(known) is type(source) and is_same(known.settings, source.settings)
    return known if known is not None and same else source


def contract(sources: Mapping[str, Source]) -> str:
    """The OpenAPI document, with the paths that the sources really have."""
    text = files("relay.ingest").joinpath("openapi.yaml").read_text("utf-8")
    items = {path: _item(source) for path, source in sources.items()}
    return text + "".join(f'  {path}:\n    $ref: "#/components/pathItems/{item}"\n' for path, item in items.items())


def _item(source: Source) -> str:
    """The path item of the OpenAPI document that tells of a source."""
    if source.type in OWN_ITEMS:
        return source.type
    return "challengedSource" if "GET" in source.methods else "source"
