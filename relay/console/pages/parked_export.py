"""Export of parked events: their content, one event a line, for `relay send`."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from relay.api.internal import one_line
from relay.client import ClientError
from relay.console.pages.parked import LINES, read_conditions, read_numbers
from relay.console.relay_stream import open_answer
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit

HEADERS: Final = {
    "Content-Type": "application/x-ndjson",
    "Content-Disposition": 'attachment; filename="parked.ndjson"',
}


async def export(visit: Visit) -> web.StreamResponse:
    """Send the content of the ticked events, or of all that a filter matches. Raises ConsoleRefusal.

    If relay goes away, the download breaks off, so that no browser takes a part for the whole.
    """
    response = web.StreamResponse(headers=HEADERS)
    target = f"/parked?{urlencode(_read_which(visit), doseq=True)}"
    try:
        async with open_answer(visit.console.options.state, visit.user, "GET", target) as lines:
            await response.prepare(visit.request)
            async for line in lines:
                await response.write(one_line(LINES.decode(line).body) + b"\n")
    except ClientError as error:
        if not response.prepared:
            raise ConsoleRefusal(502, str(error)) from None
        if visit.request.transport is not None:
            visit.request.transport.abort()
        return response
    await response.write_eof()
    return response


def _read_which(visit: Visit) -> Mapping[str, Any]:
    """Return which events the query names, as relay takes it."""
    query = visit.request.query
    if ticked := query.getall("number", []):
        return {"number": read_numbers(ticked)}
    if "which" in query:
        return read_conditions(visit, dict(parse_qsl(query["which"])))
    raise ConsoleRefusal(400, "tick the events first")
