"""Live: the events that pass, at ingest or behind the filters of a connector."""

import asyncio
from typing import Any, Final

from aiohttp import web

from relay.console.event_tap import EventTap
from relay.console.relay_view import StatusSnapshot
from relay.console.visit import Visit

INGEST: Final = "ingest"
COLLECTING_S: Final = 5.0
"""Seconds of events that a page shows without JavaScript."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the page that follows the events; with `collect`, the events of the next seconds."""
    snapshot = await visit.console.relay.read()
    names = sorted(lane.connector for lane in snapshot.status.lanes) if snapshot.status else []
    tap, query = _make_tap(visit), visit.request.query
    if query.get("collect"):
        async with asyncio.TaskGroup() as group:
            following = group.create_task(tap.follow(), name="tap of a page")
            await asyncio.sleep(COLLECTING_S)
            following.cancel()
    given = {"at": query.get("at", INGEST), "events": query.get("events", "")}
    which: dict[str, Any] = {"given": given, "places": [INGEST, *names], "collected": bool(query.get("collect"))}
    return visit.show("events.html", snapshot=snapshot, tap=tap, seconds=COLLECTING_S, **which)


async def follow(visit: Visit) -> web.StreamResponse:
    """Send the last events again and again."""
    tap = _make_tap(visit)

    def read(snapshot: StatusSnapshot) -> dict[str, Any]:
        return {"tap": tap}

    async with asyncio.TaskGroup() as group:
        following = group.create_task(tap.follow(), name="tap of a live page")
        try:
            return await visit.stream("events_live.html", read)
        finally:
            following.cancel()


def _make_tap(visit: Visit) -> EventTap:
    query = visit.request.query
    entries = query.get("events", "").replace(",", " ").split() or ["*"]
    return EventTap(visit.console.options.state, query.get("at") or INGEST, entries, visit.user)
