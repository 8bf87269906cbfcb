"""Plugins: what is installed or dropped in, and the types of conf.d with their docstrings and settings."""

from typing import Final

import msgspec
from aiohttp import web

from relay.client import ClientError
from relay.console.edits.own_process import list_types_alone
from relay.console.forms.fields import flatten, list_fields
from relay.console.relay_view import NotRunning
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.proposal import AvailableTypes

LOADING_S: Final = 100.0
"""Seconds that relay may take to load all plugins anew."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the plugins and their types."""
    found = await read_types(visit)
    types = [(one, [*flatten([*list_fields(one.schema or {})])]) for one in found.types]
    return visit.show("plugins.html", plugins=found.plugins, types=types)


async def read_types(visit: Visit) -> AvailableTypes:
    """Ask relay which types there are; a process of the console's own if no relay runs. Raises ConsoleRefusal (502)."""
    try:
        said = await visit.request_relay("GET", "/types", timeout=LOADING_S)
        found = msgspec.json.decode(said, type=AvailableTypes)
    except NotRunning:
        try:
            found = await list_types_alone(visit.console.options)
        except OSError as error:
            raise ConsoleRefusal(502, str(error)) from None
    except ClientError as error:
        raise ConsoleRefusal(502, str(error)) from None
    visit.console.types = found
    return found
