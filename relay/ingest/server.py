"""The ingest listener: one path per source, health, readiness and the OpenAPI document."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

import structlog
from aiohttp import web
from msgspec.structs import replace

from relay.api import Decoded, Source
from relay.api.internal import Validity
from relay.config import IngestSettings, TlsSettings
from relay.guests import is_same
from relay.ingest.body_memory import BodyMemory
from relay.ingest.intake import DRAIN_RETRY_AFTER_S, FULL_RETRY_AFTER_S, Intake
from relay.ingest.paths import guess_path, mask_path
from relay.ingest.problem import JOURNAL_AWAY, Problem, make_busy
from relay.ingest.source_saver import SourceSaver
from relay.ingest.to_first_worker import First, FirstPartition
from relay.listen import Acceptor, Certificates, ListenerLimits, Server, bind, describe_client, describe_sockets
from relay.store import Inbox, SourceLedger

STOP_S: Final = 5.0
"""Seconds that requests under way have to end after the listener is closed."""
LOOK_AFTER_S: Final = 60.0
LINGER_S: Final = 0.25
"""Seconds for the last connections to an inherited socket to send a request and get the answer."""
OWN_PATHS: Final = ("/healthz", "/readyz", "/openapi.yaml")
OWN_ITEMS: Final = frozenset({"heap_segments"})
"""Source types with a path item of their own in the OpenAPI document."""
log = structlog.stdlib.get_logger()


class Ingest:
    """Serves HTTP for all sources of a configuration."""

    def __init__(
        self,
        sources: Sequence[Source],
        settings: IngestSettings,
        inbox: Inbox,
        first: First | FirstPartition | None = None,
    ) -> None:
        """`first`: the first worker or partition, unless all events are there."""
        self._settings, self._inbox, self._first = settings, inbox, first
        self.body_memory = BodyMemory(settings.max_in_flight)
        """The bytes of requests under way, of all sources."""
        self._source_saver = SourceSaver(inbox.sources, self._collect_ledgers)
        self._intakes: dict[str, Intake] = {}
        self._paths: dict[str, Intake] = {}
        self._removed: list[SourceLedger] = []
        self.unrouted = 0
        """Requests to unknown paths since the start."""
        self._set_sources(sources)
        self._certificates: Certificates | None = None
        self._ready = False
        self.server: Server | None = None
        """The HTTP server; None before the start."""
        self._runner: web.ServerRunner | None = None
        self._accepting: list[Acceptor] = []
        self._outlived = False
        """Whether the next process inherits the sockets."""

    @property
    def intakes(self) -> Mapping[str, Intake]:
        """The sources' intakes by name."""
        return self._intakes

    @property
    def connections(self) -> int:
        """Open connections."""
        return self.server.connected if self.server else 0

    @property
    def refused(self) -> Mapping[str, int]:
        """Connections that ended without a request, by cause, since the start."""
        return {**self.server.refused} if self.server else {}

    def get_source(self, name: str) -> Source:
        """Return the source of this name. Raises LookupError."""
        return self._intakes[name].source

    async def keep(self, source: str, decoded: Decoded) -> int:
        """Put events of another worker on disk; return how many were no duplicates.

        Raises Unavailable, and LookupError without such a source.
        """
        return await self._intakes[source].keep(decoded)

    def change(self, sources: Sequence[Source], settings: IngestSettings) -> None:
        """Switch to other sources and limits between two requests.

        Unchanged sources stay. The source of a request under way still answers it.
        """
        if settings == self._settings:
            known = {name: intake.source for name, intake in self._intakes.items()}
            sources = [_reuse_source(known.get(source.name), source) for source in sources]
        self._settings = settings
        self.body_memory.limit = settings.max_in_flight
        if self.server is not None:
            self.server.limits = make_limits(settings)
        self._set_sources(sources)

    def _set_sources(self, sources: Sequence[Source]) -> None:
        """Give each source its present intake, or a new one with the counts of the old one."""
        before, intakes = self._intakes, dict[str, Intake]()
        for source in sources:
            old = before.get(source.name)
            if old is not None and old.source is source:
                intakes[source.name] = old
                continue
            save_soon = self._source_saver.save_soon
            fresh = Intake(source, self._settings, self.body_memory, self._inbox, save_soon, self._first)
            if old is not None:
                fresh.take_over(old)
            intakes[source.name] = fresh
        self._intakes = intakes
        self._paths = {intake.source.settings.path: intake for intake in intakes.values()}
        self._removed += [replace(old.ledger, refusals=None) for name, old in before.items() if name not in intakes]

    async def start(self, sockets: Sequence[socket.socket] | None = None, *, outlived: bool = True) -> list[str]:
        """Listen on the inherited sockets, or on the configured addresses; return the addresses.

        `outlived`: the next process inherits the sockets. Raises ListenError if an address cannot be bound, TlsError.
        """
        if self._settings.tls is not None:
            self._certificates = Certificates(self._settings.tls)
        await self._restore()
        self.server = Server(self._dispatch, "ingest", make_limits(self._settings), auto_decompress=False)
        if self.server.bound < self._settings.max_connections:
            advice = "raise LimitNOFILE= in the unit (ulimit -n in a shell): senders get half of it"
            log.warning("fewer connections than ingest.max_connections", connections=self.server.bound, advice=advice)
        self._runner = web.ServerRunner(self.server, handle_signals=False, shutdown_timeout=STOP_S)
        await self._runner.setup()
        listening = bind(self._settings.listen, "ingest.listen")[0] if sockets is None else sockets
        tls = self._certificates.context if self._certificates else None
        self._accepting = [
            Acceptor(self.server, one, None if one.family == socket.AF_UNIX else tls) for one in listening
        ]
        self._outlived = sockets is not None and outlived
        self._ready = True
        return describe_sockets(listening, tls=tls is not None)

    async def _restore(self) -> None:
        """Restore the sources' counts, and remove what no source needs any more."""
        for name, ledger in (await self._inbox.sources.read_sources()).items():
            if name in self._intakes:
                self._intakes[name].restore(ledger)
            else:
                self._removed.append(replace(ledger, refusals=None))  # whoever sends there now is told 404
        for name, memory in (await self._inbox.sources.read_memories()).items():
            if name in self._intakes and self._intakes[name].tells_source:
                self._intakes[name].calls.recall(memory)
        dedupes = [name for name, intake in self._intakes.items() if intake.source.settings.dedupe]
        await self._inbox.events.forget_ids(dedupes)

    def _collect_ledgers(self) -> list[SourceLedger]:
        return [*(intake.ledger for intake in self._intakes.values()), *self._removed]

    async def reload_tls(self, settings: TlsSettings | None = None) -> bool:
        """Serve new connections with the certificates as they are now, from the files or from other settings.

        Returns whether anything is new. Raises TlsError, and then everything stays as it was.
        """
        return self._certificates is not None and await self._certificates.reload(settings)

    @property
    def certificate(self) -> Validity | None:
        """The validity of the served certificate; None without TLS."""
        return self._certificates.validity if self._certificates else None

    async def watch_tls(self) -> None:
        """Reload renewed certificates until cancelled."""
        if self._certificates is not None:
            await self._certificates.watch()

    async def keep_asking_sources(self) -> None:
        """Make the sources report what is overdue, every LOOK_AFTER_S until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            for intake in [*self._intakes.values()]:
                await intake.report_overdue()

    async def drain(self) -> None:
        """Report not ready, and answer new requests 503. New connections to an inherited socket wait for the next
        process."""
        self._ready = False
        for intake in self._intakes.values():
            intake.draining = True
        if self._outlived:
            self._close_acceptors()

    def _close_acceptors(self) -> None:
        for acceptor in self._accepting:
            acceptor.close()
        self._accepting = []

    async def stop(self) -> None:
        """Stop listening, answer the requests under way, and save the sources' counts."""
        if self._outlived:
            await asyncio.sleep(LINGER_S)
        self._close_acceptors()
        if self._runner is not None:
            await self._runner.cleanup()
        for intake in self._intakes.values():
            intake.close()
        await self._source_saver.close()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request on any path. A table of paths is faster than a router."""
        if (intake := self._paths.get(request.path)) is not None:
            return await intake.handle(request)
        if request.path not in OWN_PATHS:
            return self._refuse_path(request)
        if request.method not in ("GET", "HEAD"):
            return Problem(405, "this is only to be read", Allow="GET, HEAD").make_response(request)
        if request.path == "/healthz":
            return web.json_response({"status": "alive"})
        if request.path == "/openapi.yaml":
            text = render_contract({path: intake.source for path, intake in self._paths.items()})
            return web.Response(text=text, content_type="application/yaml")
        if not self._ready:
            return make_busy("relay is stopping", DRAIN_RETRY_AFTER_S).make_response(request)
        if reason := self._inbox.outage or self._inbox.events.refusing:
            told = JOURNAL_AWAY if isinstance(self._first, FirstPartition) else ""
            return make_busy(reason, FULL_RETRY_AFTER_S, told).make_response(request)
        return web.json_response({"status": "ready"})

    def _refuse_path(self, request: web.BaseRequest) -> web.Response:
        """Refuse a request to an unknown path. The sender's source may have been removed or moved."""
        self.unrouted += 1
        near = guess_path(request.path, self._paths)
        advice = "" if near is None else f"; the path of source {self._paths[near].source.name} is {near}"
        problem = Problem(404, f"no source has the path {mask_path(request.path)}{advice}")
        if request.method == "POST":
            by = describe_client(request, self._settings.trusted_proxies)
            log.warning("request refused", client=by, status=problem.status, reason=problem.detail)
        return problem.make_response(request)


def make_limits(settings: IngestSettings) -> ListenerLimits:
    """Return the listener's limits for a connection."""
    return ListenerLimits(
        head=settings.read_timeout,
        idle=settings.idle_timeout,
        answer=settings.read_timeout,
        connections=settings.max_connections,
        table="ingest",
    )


def _reuse_source(known: Source | None, source: Source) -> Source:
    """Return the known source if its settings are the same, else the other one."""
    same = known is not None and type(known) is type(source) and is_same(known.settings, source.settings)
    return known if known is not None and same else source


def render_contract(sources: Mapping[str, Source]) -> str:
    """Return the OpenAPI document with the paths of these sources."""
    text = files("relay.ingest").joinpath("openapi.yaml").read_text("utf-8")
    for path, source in sources.items():
        usual = "challengedSource" if "GET" in source.methods else "source"
        item = source.type if source.type in OWN_ITEMS else usual
        text += f'  {path}:\n    $ref: "#/components/pathItems/{item}"\n'
    return text
