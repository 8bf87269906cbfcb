"""Source: where its senders post, what they sent, and why it refuses."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from relay.console.pages.settings_table import read_settings
from relay.console.relay_view import StatusSnapshot
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.status import diagnose


async def show(visit: Visit) -> web.StreamResponse:
    """Show a source."""
    snapshot = await visit.console.relay.read()
    name = visit.request.match_info["name"]
    values = _make_reader(name)(snapshot)
    if snapshot.status is not None and values is None:
        raise ConsoleRefusal(404, "there is no source of this name")
    settings, why = await read_settings(visit, "source", name)
    given: dict[str, Any] = {"settings": settings, "settings_missing": why, "name": name}
    return visit.show("source.html", snapshot=snapshot, **given, **(values or {"source": None}))


async def follow(visit: Visit) -> web.StreamResponse:
    """Send the state of a source again and again, as long as it is there."""
    return await visit.stream("source_live.html", _make_reader(visit.request.match_info["name"]))


def _make_reader(name: str) -> Callable[[StatusSnapshot], dict[str, Any] | None]:
    """Return what finds a source in a status; it returns None if there is none."""

    def read(snapshot: StatusSnapshot) -> dict[str, Any] | None:
        seen = snapshot.status
        source = None if seen is None else next((one for one in seen.sources if one.source == name), None)
        if seen is None or source is None:
            return None
        said = next(one.said for one in diagnose(seen).sources if one.name == name)
        return {"seen": seen, "source": source, "said": said}

    return read
