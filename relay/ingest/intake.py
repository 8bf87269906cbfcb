"""Takes one source's requests from HTTP to the journal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Final, TypeVar

import structlog
from aiohttp import web

from relay.api import LARGE, Decoded, Denied, Entries, Request, Response, Source
from relay.api.internal import Threads, cut
from relay.catalogue import TYPES, find_type
from relay.config import IngestSettings
from relay.ingest.allowed import Allowed
from relay.ingest.body import Body
from relay.ingest.body_memory import BodyMemory
from relay.ingest.prepared_answer import make_answer
from relay.ingest.problem import JOURNAL_AWAY, Problem, make_busy
from relay.ingest.rate_limit import SourceRateLimit
from relay.ingest.refusal_clock import RefusalClock
from relay.ingest.source_calls import SourceCalls
from relay.ingest.to_first_worker import First, FirstPartition, split
from relay.ingest.traffic import UNKNOWN_TYPES, Traffic
from relay.listen import describe_client
from relay.store import Appender, EventIds, Inbox, Parked, SourceLedger, TooLarge, Unavailable
from relay.words import REASON_CHARS

T = TypeVar("T")

FULL_RETRY_AFTER_S: Final = 30
DRAIN_RETRY_AFTER_S: Final = 5
LOCKED_RETRY_AFTER_S: Final = 5
DATABASE_S: Final = 3.0
"""A sender waits for relay.db until relay.db has been busy with one transaction for so long."""
DECODE_S: Final = 30.0
"""Seconds that one large body may take to read. Then the source's plugin is reported as hanging."""
EVENT_BYTES: Final = 150
"""Memory that an event takes on its way to the journal, besides its own bytes."""
UNKNOWN_ADVICE: Final = "group and channel are what its name says; see whether your connectors should have it"
PARKING_ADVICE: Final = (
    "requests without unreadable events are not held up by this; see what locks or fills the database"
)
log = structlog.stdlib.get_logger()


class Intake:
    """Takes the requests of one source. Answers 2xx only after the events are on disk."""

    def __init__(
        self,
        source: Source,
        settings: IngestSettings,
        body_memory: BodyMemory,
        inbox: Inbox,
        save_soon: Callable[[], None],
        first: First | FirstPartition | None = None,
    ) -> None:
        """`first`: the first worker or partition, unless all events are there."""
        self._first = first
        self._told = JOURNAL_AWAY if isinstance(first, FirstPartition) else ""
        self.source, self._settings, self._body_memory = source, settings, body_memory
        self.calls = SourceCalls(source)
        self._threads = Threads(f"source {source.name}", 1)
        self._inbox, self._journal, self._state, self._save_soon = inbox, inbox.events, inbox.sources, save_soon
        steady = self._journal.clock.read_steady
        allow, rate = source.settings.allow, source.settings.rate
        self._allowed = Allowed(allow, settings.trusted_proxies) if allow else None
        self._limit = SourceRateLimit(rate) if rate else None
        self._window = source.settings.dedupe if first is None or isinstance(first, FirstPartition) else 0.0
        """Seconds within which a repeated event is a duplicate; 0: every event is taken."""
        self.tells_source = source.watches and not isinstance(first, FirstPartition)
        """Whether a source that watches hears of its events here. Otherwise `SourceWatch` passes them on."""
        self._blank = self.calls.remember() if source.watches and not self.tells_source else None
        self._left_out = 0
        self.refusal_clock = RefusalClock(source, save_soon, steady)
        """How long the source has refused everything."""
        self.traffic = Traffic()
        self.draining = False

    @property
    def ledger(self) -> SourceLedger:
        """The source's counts."""
        return SourceLedger(self.source.name, self._left_out, self.refusal_clock.lasting)

    def restore(self, ledger: SourceLedger) -> None:
        """Restore the counts from before a restart."""
        self._left_out = ledger.duplicates
        self.refusal_clock.restore(ledger.refusals)

    def close(self) -> None:
        """Close the thread of the source. No request may be under way."""
        self._threads.close()

    def take_over(self, before: "Intake") -> None:
        """Take over the counts and the memory of the intake before; the source's settings have changed."""
        self.restore(before.ledger)
        if (memory := before.calls.remember()) is not None:
            self.calls.recall(memory)
        self.traffic = before.traffic

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request on the source's path."""
        try:
            if self._allowed is not None:
                self._allowed.check(request)
        except Problem as problem:
            return self._refuse(request, problem)  # and no word to the guard: it is not the source's sender
        if request.method != "POST":
            return self._respond(request)
        began = perf_counter()
        try:
            response = await self._take(request)
        except Problem as problem:
            self.refusal_clock.note_refused(problem.status, problem.detail)
            return self._refuse(request, problem)
        except Exception as bug:
            self.refusal_clock.note_refused(500, f"{type(bug).__name__}, see the log")
            self.traffic.count_refused(500)
            raise
        self.refusal_clock.note_accepted()
        self.traffic.count_answered(perf_counter() - began)
        return response

    def _respond(self, request: web.BaseRequest) -> web.Response:
        """Answer a request that cannot bring events. A sender may test its webhook with such requests."""
        methods, began = self.source.methods, perf_counter()
        try:
            if request.method not in methods:
                raise Problem(405, "events are sent by POST", Allow=", ".join(methods))
            if self.draining:
                raise make_busy("relay is stopping", DRAIN_RETRY_AFTER_S)
            url = request.rel_url
            response = self.calls.respond(Request(b"", request.headers, url.raw_query_string, request.method))
            if response is None:
                raise Problem(405, "events are sent by POST", Allow="POST")
        except Problem as problem:
            return self._refuse(request, problem)
        self.traffic.count_answered(perf_counter() - began)
        return _convert_response(response)

    def _refuse(self, request: web.BaseRequest, problem: Problem) -> web.Response:
        self.traffic.count_refused(problem.status)
        if not self.draining and problem.status != 500:  # a plugin's bug is told with its name
            whose = {"source": self.source.name, "client": describe_client(request, self._settings.trusted_proxies)}
            log.warning("request refused", **whose, status=problem.status, reason=problem.detail)
        response = problem.make_response(request)
        if self.draining:
            response.force_close()  # another request on this connection might not be answered any more
        return response

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        """Put the events of a request on disk, and answer it: 200 if nothing came. Raises Problem."""
        asked = Request(b"", request.headers, request.rel_url.raw_query_string)
        try:
            self.calls.authorize(asked)
        except Denied as denied:
            raise self.calls.make_denied(denied) from None
        if self.draining:
            raise make_busy("relay is stopping", DRAIN_RETRY_AFTER_S)
        with Body(request, self._settings, self._body_memory) as body:
            asked.body = content = await body.read()
            if len(content) <= LARGE:
                decoded = self.calls.read(asked)
            else:
                decoded = await self._read_large(asked)
            if isinstance(decoded, Response):
                return _convert_response(decoded)
            events, unreadable = len(decoded.bodies), len(decoded.unreadable)
            made = 0 if type(decoded.bodies) is Entries else sum(map(len, decoded.bodies))  # Entries lie in the body
            body.reserve(EVENT_BYTES * events + made)
            if self.calls.new_types:
                self._report_new_types()
            if self._limit is not None:
                self._limit.take(events + unreadable)
            accepted = await self._keep(decoded)
        self.traffic.count_events(accepted, unreadable)
        counts = b'{"accepted":%d,"parked":%d,"duplicates":%d}' % (accepted, unreadable, events - accepted)
        status = self.source.accepted_status if events or unreadable else 200
        return make_answer(request, status, counts)

    async def _read_large(self, asked: Request) -> Decoded | Response:
        """Read a body of more than LARGE bytes in the source's own thread, one body at a time. Raises Problem."""
        if not self._threads.hang:
            with suppress(TimeoutError):
                async with asyncio.timeout(DECODE_S):
                    return await self._threads.run(self.calls.read_in_thread, asked)
        raise self.calls.report_hang(DECODE_S)

    def _report_new_types(self) -> None:
        """Log event types that are new here and missing in the catalogue, if the source's types are catalogued."""
        types, self.calls.new_types = self.calls.new_types, []
        if not self.source.catalogued:
            return
        known = self.traffic.unknown_types
        for name in types:
            if len(known) >= UNKNOWN_TYPES:
                return
            if name not in TYPES and name not in known:
                known[name] = None
                said = find_type(name)
                group, channel = (said.group, said.channel) if said else ("", "")
                told = {"source": self.source.name, "type": name, "group": group, "channel": channel}
                log.warning("event type is not in the catalogue", **told, advice=UNKNOWN_ADVICE, always=True)

    async def _keep(self, decoded: Decoded) -> int:
        """Put everything on disk; return how many events were no duplicates.

        Raises Problem: 503 if the sender has to send again, 413 if the journal can never hold the request.
        """
        try:
            if decoded.unreadable:
                return await self._park_and_append(decoded)
            if not decoded.bodies:
                return 0
            return await (self.keep(decoded) if self._first is None else self._append(decoded))
        except Unavailable as error:
            if not error.is_logged:
                log.error("the journal takes no events", reason=str(error))
            raise make_busy(str(error), FULL_RETRY_AFTER_S, self._told) from None
        except TooLarge as error:
            raise Problem(413, str(error)) from None

    async def _park_and_append(self, decoded: Decoded) -> int:
        """Keep all of a request or nothing; the sender sends a refused request again as a whole.

        Parks first and appends last: parked events can be taken back, events in the journal cannot. Raises Unavailable,
        Problem.
        """
        if decoded.bodies and (reason := self._journal.refusing):
            raise Unavailable(reason)
        source, clean = self.source.name, self.calls.clean
        parked = [
            Parked(source, None, None, None, "unreadable", clean(cut(one.reason, REASON_CHARS)), 0, one.body)
            for one in decoded.unreadable
        ]
        numbers = await self._park(parked)
        try:
            accepted = await self._append(decoded) if decoded.bodies else 0
        except Exception:
            with suppress(Unavailable):  # then they lie there twice when they come again
                await self._await_database(self._state.unpark(numbers))
            raise
        log.warning("unreadable events parked", source=source, events=len(numbers), reason=parked[0].reason)
        return accepted

    async def _park(self, unreadable: Sequence[Parked]) -> Sequence[int]:
        """Park unreadable events; return their numbers. Raises Problem."""
        try:
            return await self._await_database(self._state.park(unreadable))
        except Unavailable as error:
            told = {"source": self.source.name, "events": len(unreadable), "reason": str(error)}
            if not error.is_logged:
                log.error("unreadable events cannot be parked", **told, advice=PARKING_ADVICE)
            again = LOCKED_RETRY_AFTER_S if error.reason == "busy" else FULL_RETRY_AFTER_S
            raise make_busy(f"unreadable events cannot be parked: {error}", again, self._told) from None

    async def _await_database(self, work: Awaitable[T]) -> T:
        """Wait for relay.db, but for no other transaction longer than DATABASE_S. Raises Unavailable."""
        try:
            async with asyncio.timeout(max(0.0, DATABASE_S - self._state.busy_for)):
                return await work
        except TimeoutError:
            raise Unavailable("the database is busy, or somebody has locked it", "busy") from None

    async def _append(self, decoded: Decoded) -> int:
        """Put events into the journal, or into that of the first worker or partition."""
        if self._first is None:
            return await self.keep(decoded)
        self._journal.check_size(decoded.kinds, decoded.bodies)  # the first worker's is as large
        if isinstance(self._first, FirstPartition):
            return await self._divide(decoded, self._first)
        if self.source.settings.dedupe or self.source.watches:
            return await self._first.keep(self.source.name, decoded)
        here, there = split(decoded, self._first.wants)
        if self._journal.failing:  # first what may well be refused: what the other one keeps would come there again
            accepted = await self.keep(here) if here.bodies else 0
            return accepted + (await self._first.keep(self.source.name, there) if there.bodies else 0)
        accepted = await self._first.keep(self.source.name, there) if there.bodies else 0
        return accepted + (await self.keep(here) if here.bodies else 0)

    async def _divide(self, decoded: Decoded, first: FirstPartition) -> int:
        """Put some events into partition 0, and the rest anywhere; return how many were no duplicates."""
        if not (first.selections or self.source.watches):
            return await self.keep(decoded) if decoded.bodies else 0
        here, there = split(decoded, first.wants)
        # A source that watches has all its events there. An id counts while it is among the latest of its subject
        if self.source.watches or (there.bodies and decoded.subject is not None):
            here, there = split(decoded, lambda _: True)
        accepted = await self.keep(there, self._inbox.first) if there.bodies else 0
        return accepted + (await self.keep(here) if here.bodies else 0)

    async def keep(self, decoded: Decoded, journal: Appender | None = None) -> int:
        """Put events into a journal, by default that of this process; return how many were no duplicates.

        Raises Unavailable.
        """
        journal, events = journal or self._journal, len(decoded.bodies)
        if not self._window or decoded.ids is None:
            if self._window:
                reason = f"sources of type {self.source.type} do not tell the ids of their events"
                advice = "remove the source's `dedupe`, or have the plugin fill `Decoded.ids`"
                log.error("duplicates cannot be recognized", source=self.source.name, reason=reason, advice=advice)
            await journal.append(decoded.kinds, decoded.bodies)
            if self.tells_source:
                await self._tell_source(decoded.bodies)
            return events
        by = EventIds(self.source.name, decoded.ids, self._window, decoded.subject)
        async with journal.append_new(decoded.kinds, decoded.bodies, by) as fresh:
            if fresh and self.tells_source:
                await self._tell_source([decoded.bodies[place] for place in fresh])
        accepted = len(fresh)
        if accepted < events:
            self._left_out += events - accepted
            self._save_soon()
        return accepted

    async def _tell_source(self, bodies: Sequence[Any]) -> None:
        """Pass events on disk to the source, and save the source's memory before the sender gets its answer."""
        self.calls.kept(bodies)
        await self.save_memory()

    async def report_overdue(self) -> None:
        """Make the source report what is overdue."""
        self.calls.look_after()
        if self.tells_source:
            await self.save_memory()

    def forget(self) -> None:
        """Make the source forget its events: another process passes them on from now on."""
        if self._blank is not None:
            self.calls.recall(self._blank)

    async def save_memory(self) -> None:
        """Save the source's memory, if the source can give it."""
        if (memory := self.calls.remember()) is None:
            return
        try:
            await self._await_database(self._state.save_memory(self.source.name, memory))
        except Unavailable as error:
            if not error.is_logged:
                log.error("saving what a source remembers failed", source=self.source.name, error=str(error))


def _convert_response(response: Response) -> web.Response:
    """Convert the answer of a source. The answer may repeat what was sent, so its type is fixed with `nosniff`."""
    kind = response.content_type + ("; charset=utf-8" if response.content_type.startswith("text/") else "")
    headers = {"Content-Type": kind, "X-Content-Type-Options": "nosniff"}
    return web.Response(body=response.body, status=response.status, headers=headers)
