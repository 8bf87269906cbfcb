"""What admins want to know of the whole journal: whether it is whole and nothing has vanished, where an event is, what
is in it, what a replay would take, and what there still is of a user."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.admin.control import Control
from relay.admin.handlers.erasures import user_in
from relay.admin.journal_process import JournalProcess
from relay.admin.responses import answer, content, stream, taken
from relay.inspect import DumpPart, Found, Stretch, problem, trace_all
from relay.threads import ADMIN

DUMPS: Final = 2
"""Clients who are sent the events of the journal at a time."""


class JournalHandlers:
    """The handlers."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._reader = JournalProcess(
            control.folder, control.config.journal.path
        )  # for good: a new path takes a restart
        self._dumps = 0

    def routes(self) -> list[web.RouteDef]:
        """Where each of them answers."""
        return [
            web.get("/audit", self.audit),
            web.get("/trace", self.trace),
            web.get("/journal", self.check),
            web.get("/journal/events", self.events),
            web.post("/replays/count", self.count),
            web.post("/erasures/check", self.remains),
        ]

    async def audit(self, _: web.Request) -> web.StreamResponse:
        """Whether anything has vanished."""
        return answer(await self._reader.answer("audit", kept_for=self._control.config.kept_for))

    async def check(self, _: web.Request) -> web.StreamResponse:
        """Whether the journal is whole."""
        return answer(await self._reader.answer("check"))

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """Where an event is, and what becomes of it."""
        wanted = request.query.get("id")
        if wanted is None:
            raise ValueError("say which event: id")
        found = msgspec.json.decode(await self._reader.answer("search", id=wanted), type=list[Found])
        return answer(await ADMIN.run(trace_all, wanted, found, self._control.config))

    async def count(self, request: web.Request) -> web.StreamResponse:
        """What a replay would take."""
        asked = taken(await content(request), Stretch)
        config = self._control.config
        settings = config.connector(asked.connector)
        found = await self._reader.answer("count", asked=asdict(asked), within=config.entries(asked.connector))
        return answer({"rate": settings.rate, "workers": found})

    async def remains(self, request: web.Request) -> web.StreamResponse:
        """What there still is of a user."""
        return answer(await self._reader.answer("remains", user=asdict(await user_in(request))))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The events, and what cannot be read."""
        query: dict[str, Any] = {name: request.query[name] for name in request.query}
        part = taken(query | {"events": request.query.getall("events", [])}, DumpPart)
        if self._dumps >= DUMPS:
            raise OSError(f"{DUMPS} others are sent the journal already")
        self._dumps += 1
        try:
            async with self._reader.pieces("dump", part=asdict(part)) as pieces:
                first = await anext(pieces, b"")  # what fails at once is answered as such
                return await stream(request, _to_the_end(first, pieces))
        finally:
            self._dumps -= 1


async def _to_the_end(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All of it; if the rest is missing, the last line says so."""
    if first:
        yield first
    try:
        async for piece in pieces:
            yield piece
    except OSError as error:
        yield b"\n" + problem(str(error))
