"""Trace: an event's way through every connector, by its id, and one more delivery of it."""

from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.rights import Right
from relay.console.visit import Visit

READING_S: Final = 120.0
"""Seconds that relay may take to read its journal for a page."""


class _Stored(msgspec.Struct):
    """A line of `GET /journal/events`. Lines about what cannot be read have no event."""

    event: msgspec.Raw = msgspec.Raw()
    worker: int = 0


STORED: Final = msgspec.json.Decoder(_Stored)


async def show(visit: Visit) -> web.StreamResponse:
    """Ask for an id, and show where the event with this id is."""
    wanted = visit.request.query.get("id", "").strip()
    found: dict[str, Any] = {"workers": []}
    if wanted:
        found = await visit.ask("GET", f"/trace?{urlencode({'id': wanted})}", timeout=READING_S)
    hits = [one for one in found["workers"] if one["journal"] or one["parked"]]
    if visit.right is not None and visit.right >= Right.STEER:
        for hit in hits:
            for one in hit["journal"]:
                one["content"] = await _read_content(visit, hit["worker"], one["offset"])
    problems = [problem for one in found["workers"] for problem in one["problems"]]
    asked = visit.request.query.get("replay", "")
    several = len(found["workers"]) > 1
    return visit.show("trace.html", id=wanted, hits=hits, problems=problems, several=several, asked=asked)


async def _read_content(visit: Visit, worker: int, offset: int) -> bytes:
    """Return the content of an event of the journal; empty if it cannot be read any more."""
    query = urlencode({"start": offset, "stop": offset + 1})
    lines = STORED.decode_lines(await visit.read("GET", f"/journal/events?{query}", timeout=READING_S))
    found = (bytes(one.event) for one in lines if one.worker == worker and bytes(one.event))
    return msgspec.json.format(next(found, b""), indent=2)


async def deliver_again(visit: Visit) -> web.StreamResponse:
    """Request a replay of one event to one connector. Raises ConsoleRefusal."""
    form = visit.form
    try:
        offset, worker = int(form.get("offset", "")), int(form.get("worker", ""))
    except ValueError:
        raise ConsoleRefusal(400, "first look for the event") from None
    asked = {"connector": form.get("connector", ""), "start": offset, "stop": offset + 1, "worker": worker}
    number = (await visit.ask("POST", "/replays", asked))["number"]
    visit.console.relay.forget()
    return visit.go(f"/trace?{urlencode({'id': form.get('id', ''), 'replay': number})}")
