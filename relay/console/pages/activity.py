"""Activity: what happened, when, and by whom."""

from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from relay.console.visit import Visit
from relay.kinds import KINDS

SHOWN: Final = 200


async def show(visit: Visit) -> web.StreamResponse:
    """Show the newest entries of the history, those of one kind or subject if that is asked for."""
    query = visit.request.query
    chosen = {name: query[name] for name in ("kind", "subject") if query.get(name)}
    if chosen.get("kind") not in KINDS:
        chosen.pop("kind", None)
    entries = await visit.ask("GET", f"/history?{urlencode({**chosen, 'limit': SHOWN})}")
    return visit.show("activity.html", entries=entries[::-1], kinds=[*KINDS], chosen=chosen, most=SHOWN)
