"""Erasures: the receipts, which have no id of a user."""

from aiohttp import web

from relay.console.visit import Visit


async def show(visit: Visit) -> web.StreamResponse:
    """Show the receipts of all erasures, the last one first."""
    return visit.show("erasures.html", receipts=await visit.ask("GET", "/erasures"))
