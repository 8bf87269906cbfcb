"""Replays: how far each is, and an end for those under way."""

import msgspec
from aiohttp import web

from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.store import Replay


async def show(visit: Visit) -> web.StreamResponse:
    """Show all replays, the last one first."""
    return visit.show("replays.html", replays=msgspec.convert(await visit.ask("GET", "/replays"), list[Replay]))


async def cancel(visit: Visit) -> web.StreamResponse:
    """End a replay where it is."""
    number = int(visit.request.match_info["number"])
    if not (await visit.ask("DELETE", f"/replays/{number}"))["cancelled"]:
        raise ConsoleRefusal(409, f"replay {number} is not under way: it has ended, or there is none")
    return visit.go("/replays")
