"""Plugins: what is installed or dropped in, and the types of conf.d with their docstrings and settings."""

from typing import Final

from aiohttp import web

from relay.console.forms.fields import flatten, list_fields
from relay.console.visit import Visit

LOADING_S: Final = 100.0
"""Seconds that relay may take to load all plugins anew."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the plugins and their types."""
    found = await visit.ask("GET", "/types", timeout=LOADING_S)
    types = [(one, [*flatten([*list_fields(one["schema"] or {})])]) for one in found["types"]]
    return visit.show("plugins.html", plugins=found["plugins"], types=types)
