"""The journal over the admin API: audit, check, trace, events, the size of a replay, and what remains of a user."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.admin.control import Control
from relay.admin.handlers.erasures import read_user
from relay.admin.journal_process import JournalProcess
from relay.admin.responses import convert_content, make_answer, read_content, send_lines
from relay.inspect import DumpPart, Found, Stretch, encode_problem, trace_all
from relay.threads import ADMIN

DUMPS: Final = 2
"""Dumps of the journal at a time."""


class JournalHandlers:
    """The handlers of the journal."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._reader = JournalProcess(control.folder, control.config.journal)  # for good: a new place takes a restart
        self._dumps = 0

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/audit", self.audit),
            web.get("/trace", self.trace),
            web.get("/journal", self.check),
            web.get("/journal/events", self.dump_events),
            web.post("/replays/count", self.count),
            web.post("/erasures/check", self.find_remains),
        ]

    async def audit(self, _: web.Request) -> web.StreamResponse:
        """Answer whether anything has vanished."""
        return make_answer(await self._reader.answer("audit", kept_for=self._control.config.kept_for))

    async def check(self, _: web.Request) -> web.StreamResponse:
        """Answer whether the journal is whole."""
        return make_answer(await self._reader.answer("check"))

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """Answer where an event is, and what becomes of it."""
        wanted = request.query.get("id")
        if wanted is None:
            raise ValueError("say which event: id")
        found = msgspec.json.decode(await self._reader.answer("search", id=wanted), type=list[Found])
        return make_answer(await ADMIN.run(trace_all, wanted, found, self._control.config))

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Count the events of a replay."""
        asked = convert_content(await read_content(request, '{"connector": "heap"}'), Stretch)
        config = self._control.config
        settings = config.get_connector(asked.connector)
        found = await self._reader.answer("count", asked=asdict(asked), within=config.list_entries(asked.connector))
        return make_answer({"rate": settings.rate, "workers": found})

    async def find_remains(self, request: web.Request) -> web.StreamResponse:
        """Answer what remains of a user."""
        return make_answer(await self._reader.answer("remains", user=asdict(await read_user(request))))

    async def dump_events(self, request: web.Request) -> web.StreamResponse:
        """Send the events, and what cannot be read."""
        query: dict[str, Any] = {name: request.query[name] for name in request.query}
        part = convert_content(query | {"events": request.query.getall("events", [])}, DumpPart)
        if self._dumps >= DUMPS:
            raise OSError(f"{DUMPS} others are sent the journal already")
        self._dumps += 1
        try:
            async with self._reader.answer_in_pieces("dump", part=asdict(part)) as pieces:
                first = await anext(pieces, b"")  # what fails at once is answered as such
                return await send_lines(request, _send_pieces(first, pieces))
        finally:
            self._dumps -= 1


async def _send_pieces(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield all pieces. If the rest is missing, the last line says so."""
    if first:
        yield first
    try:
        async for piece in pieces:
            yield piece
    except OSError as error:
        yield b"\n" + encode_problem(str(error))
