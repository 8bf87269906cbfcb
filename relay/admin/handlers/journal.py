"""The journal over the admin API: audit, check, trace, events, the size of a replay, and what remains of a user."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.admin.control import Control
from relay.admin.handlers.erasures import read_user
from relay.admin.question_process import QuestionProcess, answer_by, wants_progress
from relay.admin.responses import convert_content, make_answer, read_content, send_lines
from relay.inspect import (
    DumpPart,
    Found,
    FoundCounts,
    JournalTypes,
    PartCount,
    Stretch,
    encode_problem,
    merge_counts,
    trace_all,
)

TYPES_S: Final = 90.0
"""Seconds for counting types."""
HOUR_S: Final = 3600.0
DUMPS: Final = 2
"""Dumps of the journal at a time."""


class JournalHandlers:
    """The handlers of the journal."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._reader = QuestionProcess(control.folder, control.config.journal)  # for good: a new place takes a restart
        quick = QuestionProcess(control.folder, control.config.journal, seconds=TYPES_S)  # not behind an audit
        self._types = TypeCounts(quick)
        self._dumps = 0

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/audit", self.audit),
            web.get("/trace", self.trace),
            web.get("/journal", self.check),
            web.get("/journal/events", self.dump_events),
            web.get("/journal/types", self.count_types),
            web.post("/replays/count", self.count),
            web.post("/erasures/check", self.find_remains),
        ]

    async def audit(self, request: web.Request) -> web.StreamResponse:
        """Answer whether anything has vanished."""
        return await self._answer(request, "audit", kept_for=self._control.config.kept_for)

    async def check(self, request: web.Request) -> web.StreamResponse:
        """Answer whether the journal is whole."""
        return await self._answer(request, "check")

    async def count_types(self, request: web.Request) -> web.StreamResponse:
        """Answer with the event types in the journal."""
        if strange := request.query.keys() - {"since"}:
            raise ValueError(f"{sorted(strange)[0]} is not known here; known: since")
        since = msgspec.convert(request.query.get("since"), float | None, strict=False)
        return make_answer(await self._types.read(since))

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """Answer where an event is, and what becomes of it."""
        wanted = request.query.get("id")
        if wanted is None:
            raise ValueError("say which event: id")

        def trace(found: msgspec.Raw) -> object:
            return trace_all(wanted, msgspec.json.decode(found, type=list[Found]), self._control.config)

        return await self._answer(request, "search", trace, id=wanted)

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Count the events of a replay."""
        asked = convert_content(await read_content(request, '{"connector": "heap"}'), Stretch)
        config = self._control.config
        settings = config.get_connector(asked.connector)
        within = config.list_entries(asked.connector)

        def add_rate(found: msgspec.Raw) -> object:
            return {"rate": settings.rate, "workers": found}

        return await self._answer(request, "count", add_rate, asked=msgspec.to_builtins(asked), within=within)

    async def find_remains(self, request: web.Request) -> web.StreamResponse:
        """Answer what remains of a user."""
        return await self._answer(request, "remains", user=asdict(await read_user(request)))

    async def _answer(
        self, request: web.Request, name: str, finish: Callable[[msgspec.Raw], object] = msgspec.Raw, **more: Any
    ) -> web.StreamResponse:
        return await answer_by(self._reader, request, name, finish, **more)

    async def dump_events(self, request: web.Request) -> web.StreamResponse:
        """Send the events, and what cannot be read."""
        query: dict[str, Any] = {name: request.query[name] for name in request.query if name != "progress"}
        part = convert_content(query | {"events": request.query.getall("events", [])}, DumpPart)
        if self._dumps >= DUMPS:
            raise OSError(f"{DUMPS} others are sent the journal already")
        self._dumps += 1
        try:
            wants = wants_progress(request)
            async with self._reader.answer_in_pieces("dump", progress=wants, part=msgspec.to_builtins(part)) as pieces:
                first = await anext(pieces, b"")  # what fails at once is answered as such
                return await send_lines(request, _send_pieces(first, pieces))
        finally:
            self._dumps -= 1


class TypeCounts:
    """The event types in the journal, counted by a process that reads for a limited time.

    A part of the journal that cannot change any more is read once.
    """

    def __init__(self, process: QuestionProcess) -> None:
        self._process = process
        self._known: dict[str, PartCount] = {}
        self._turn = asyncio.Lock()

    async def read(self, since: float | None = None) -> JournalTypes:
        """Return the counts from an hour on; by default of the last day. `since` in Unix seconds. Raises OSError."""
        given = time.time() - 24 * HOUR_S if since is None else since
        hour = given // HOUR_S * HOUR_S
        async with self._turn:
            stamps = {key: part.stamp for key, part in self._known.items()}
            answer = await self._process.answer("types", since=hour, known=stamps)
            found = msgspec.json.decode(answer, type=FoundCounts)
            now = self._known | {part.key: part for part in found.counted}
            now = {key: now[key] for key in found.present if key in now}
            self._known = {key: part for key, part in now.items() if part.stamp}
        return merge_counts(now.values(), hour, found.unread, found.problems)


async def _send_pieces(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield all pieces. If the rest is missing, the last line says so."""
    if first:
        yield first
    try:
        async for piece in pieces:
            yield piece
    except OSError as error:
        yield b"\n" + encode_problem(str(error))
