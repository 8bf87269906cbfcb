"""Trace: an event's way through every connector, by its id."""

from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from relay.console.visit import Visit

READING_S: Final = 120.0
"""Seconds that relay may take to read its journal for a page."""


async def show(visit: Visit) -> web.StreamResponse:
    """Ask for an id, and show where the event with this id is."""
    wanted = visit.request.query.get("id", "").strip()
    found: dict[str, Any] = {"workers": []}
    if wanted:
        found = await visit.ask("GET", f"/trace?{urlencode({'id': wanted})}", timeout=READING_S)
    hits = [one for one in found["workers"] if one["journal"] or one["parked"]]
    problems = [problem for one in found["workers"] for problem in one["problems"]]
    return visit.show("trace.html", id=wanted, hits=hits, problems=problems, several=len(found["workers"]) > 1)
