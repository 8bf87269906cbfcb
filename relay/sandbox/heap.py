"""A stand-in for the webhook endpoint that Heap gives its customers, which takes what a Custom HTTP Current sends."""

from collections import Counter, deque
from collections.abc import Iterable
from hmac import compare_digest
from typing import Self

import orjson
from aiohttp import web

from relay.sandbox.server import StandIn


class HeapWebhook(StandIn):
    """A local server, as a context manager, that remembers ids and types of the events it has taken.

    `faults` are statuses to answer with, one per request, before it behaves again; refused events are not counted.
    """

    def __init__(self, *, token: str | None = None, faults: Iterable[int] = ()) -> None:
        super().__init__()
        self.faults = deque(faults)
        self.ids: set[str] = set()
        self.types: Counter[str] = Counter()
        """Events per type, each counted once."""
        self.duplicates = 0
        self._expected = f"Bearer {token}".encode() if token else None

    def routes(self) -> Iterable[web.RouteDef]:
        """The webhook."""
        return [web.post("/webhook", self._take)]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.url += "/webhook"
        return self

    async def _take(self, request: web.Request) -> web.Response:
        offered = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if self._expected and not compare_digest(offered, self._expected):
            return web.Response(status=401, text="wrong token")
        if self.faults:
            return web.Response(status=self.faults.popleft())
        body = await request.read()
        try:
            events = orjson.loads(body)["events"] if body else []
            self._remember({event["id"]: event["event_type"] for event in events}, len(events))
        except (ValueError, TypeError, KeyError):
            return web.Response(status=400, text='expected {"events":[...]}, each with id and event_type')
        return web.json_response({"taken": len(events)})

    def _remember(self, taken: dict[str, str], count: int) -> None:
        new = taken.keys() - self.ids
        self.duplicates += count - len(new)
        self.ids |= new
        self.types.update(taken[event_id] for event_id in new)
