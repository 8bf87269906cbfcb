"""What admins may ask: each handler takes a request and answers it; what blocks does so in a thread.

Pauses, replays and parked events are changed in the state database, as the command line does where no relay runs: the
lanes notice that within a second.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from typing import Final

from aiohttp import web

from relay.admin.acts import forget_entry, pause_entry, resume_entry
from relay.admin.control import Control
from relay.admin.openapi import contract
from relay.admin.responses import answer, asker, stream, taken
from relay.state import HistoryQuery, read_history
from relay.status import ListenerStatus, Status, both_listeners, diagnose
from relay.threads import ADMIN

TAPS: Final = 8
"""Live taps at a time."""


class StatusHandlers:
    """The handlers."""

    def __init__(self, control: Control, listeners: Callable[[], Mapping[str, ListenerStatus]]) -> None:
        """`listeners`: those of the admin API itself."""
        self._control, self._listeners = control, listeners
        self._taps = 0

    async def _status(self) -> Status:
        status = await self._control.status()
        return replace(status, listeners=both_listeners(status.listeners, self._listeners()))

    def routes(self) -> list[web.RouteDef]:
        """Where each of them answers."""
        return [
            web.get("/status", self.status),
            web.get("/lanes", self.lanes),
            web.get("/health", self.health),
            web.get("/metrics", self.metrics),
            web.get("/history", self.history),
            web.get("/tail", self.tail),
            web.post("/lanes/{connector}/pause", self.pause),
            web.post("/lanes/{connector}/resume", self.resume),
            web.post("/lanes/{connector}/retry", self.retry),
            web.post("/lanes/{connector}/forget", self.forget),
            web.get("/alerts", self.alerts),
            web.get("/alerts/now", self.alerts_now),
            web.post("/alerts/{alert}/test", self.test_alert),
            web.post("/reload", self.reload),
            web.get("/openapi.yaml", self.contract),
        ]

    async def status(self, _: web.Request) -> web.StreamResponse:
        """How everything is now."""
        return answer(await self._status())

    async def lanes(self, _: web.Request) -> web.StreamResponse:
        """How the lanes are."""
        return answer((await self._status()).lanes)

    async def health(self, _: web.Request) -> web.StreamResponse:
        """The same in words."""
        return answer(diagnose(await self._status()))

    async def alerts(self, _: web.Request) -> web.StreamResponse:
        """How the alerts are."""
        return answer((await self._status()).alerts)

    async def alerts_now(self, _: web.Request) -> web.StreamResponse:
        """What each alert would tell now."""
        return answer({name: message.data for name, message in self._control.alerts.shown().items()})

    async def test_alert(self, request: web.Request) -> web.StreamResponse:
        """Have an alert send a test."""
        tried = await self._control.alerts.test(request.match_info["alert"])
        return answer({"id": tried.id, "sent": tried.sent is not None, "problem": tried.problem})

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        """The same for Prometheus."""
        from relay.status import prometheus  # late: memory that only a scrape needs

        body = prometheus.exposition(await self._status())
        return web.Response(body=body, headers={"Content-Type": prometheus.CONTENT_TYPE})

    async def contract(self, _: web.Request) -> web.StreamResponse:
        """The OpenAPI document."""
        return web.Response(text=contract(), content_type="application/yaml")

    async def history(self, request: web.Request) -> web.StreamResponse:
        """What happened, the last of it last."""
        query = taken({name: request.query[name] for name in request.query}, HistoryQuery)
        return answer(await ADMIN.run(read_history, self._control.folder, query))

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Events as they pass."""
        if self._taps >= TAPS:
            raise OSError(f"{TAPS} taps are open already")
        self._taps += 1
        try:
            entries = [entry.strip() for entry in request.query.getall("events", []) if entry.strip("! ")]
            async with self._control.tap(request.query.get("at", "ingest"), entries) as portions:
                return await stream(request, portions)
        finally:
            self._taps -= 1

    async def reload(self, request: web.Request) -> web.StreamResponse:
        """Go over to the configuration as it is on disk, or see whether that can be done."""
        dry_run = request.query.get("dry_run") == "true"
        result = await self._control.reload(dry_run=dry_run, by=asker(request))
        return answer({"ok": result.ok, "said": result.lines if dry_run else result.said})

    async def reload_as_value(self, request: web.Request) -> web.StreamResponse:
        """Reload, and answer the result as a value: for the supervisor, which merges those of several workers."""
        return answer(await self._control.reload(dry_run=request.query.get("dry_run") == "true", by=asker(request)))

    async def forget(self, request: web.Request) -> web.StreamResponse:
        """Let go of all that is kept of a connector that is not configured."""
        kept = await self._control.forget(request.match_info["connector"])
        self._control.note(forget_entry(kept, asker(request)))
        return answer(kept)

    async def pause(self, request: web.Request) -> web.StreamResponse:
        """Have a connector's lane hold its events."""
        connector = request.match_info["connector"]
        until = _until(request.query.get("until"))
        if changed := await self._control.pause(connector, until):
            self._control.note(pause_entry(connector, until, asker(request)))
        return answer({"connector": connector, "paused": True, "changed": changed})

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Have a connector's lane go on, and try again at once if it waits for its destination."""
        connector = request.match_info["connector"]
        retried = await self._control.try_now(connector)
        changed = await self._control.resume(connector)
        if changed or retried:
            self._control.note(resume_entry(connector, asker(request), paused=changed))
        return answer({"connector": connector, "paused": False, "changed": changed, "retried": retried})

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Have a connector's lane try again at once if it waits for its destination."""
        connector = request.match_info["connector"]
        if retried := await self._control.try_now(connector):
            self._control.note(resume_entry(connector, asker(request), paused=False))
        return answer({"connector": connector, "retried": retried})


def _until(given: str | None) -> float | None:
    """The time at which a pause ends by itself. Raises ValueError."""
    until = None if given is None else float(given)
    if until is not None and not (isfinite(until) and until > time.time()):
        raise ValueError(f"until is a time to come, in Unix seconds, not {given}")
    return until
