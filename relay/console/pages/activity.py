"""Activity: what happened, when, and by whom."""

from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from relay.console.edits.record import Launches
from relay.console.visit import Visit
from relay.kinds import KINDS
from relay.threads import ADMIN

SHOWN: Final = 200
LAUNCHES: Final = 20


async def show(visit: Visit) -> web.StreamResponse:
    """Show the newest entries of the history, those of one kind or subject if that is asked for."""
    query = visit.request.query
    chosen = {name: query[name] for name in ("kind", "subject") if query.get(name)}
    if chosen.get("kind") not in KINDS:
        chosen.pop("kind", None)
    entries = await visit.ask("GET", f"/history?{urlencode({**chosen, 'limit': SHOWN})}")
    launches = await ADMIN.run(Launches(visit.console.options.state).list_newest, LAUNCHES)
    listed = {"entries": entries[::-1], "kinds": [*KINDS], "chosen": chosen, "most": SHOWN, "launches": launches}
    return visit.show("activity.html", **listed)
