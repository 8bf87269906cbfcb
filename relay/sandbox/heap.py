"""A stand-in for the webhook endpoint that Heap gives its customers, which takes what a Custom HTTP Current sends."""

from collections import Counter, deque
from collections.abc import Iterable
from hmac import compare_digest
from types import TracebackType
from typing import Final, Self

import orjson
from aiohttp import web

MAX_BODY_BYTES: Final = 128 << 20
"""A batch of 100 events of Braze's 900 KB at most fits in."""


class HeapWebhook:
    """A local server, as a context manager, that remembers ids and types of the events it has taken.

    `faults` are statuses to answer with, one per request, before it behaves again; refused events are not counted.
    """

    def __init__(self, *, token: str | None = None, faults: Iterable[int] = ()) -> None:
        self.faults = deque(faults)
        self.url = ""
        self.ids: set[str] = set()
        self.types: Counter[str] = Counter()
        """Events per type, each counted once."""
        self.duplicates = 0
        self._expected = f"Bearer {token}".encode() if token else None

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_post("/webhook", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/webhook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

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
