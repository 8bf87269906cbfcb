"""The static files: styles and scripts, all of them from this package."""

from functools import cache
from importlib.resources import files
from typing import Final

from aiohttp import web

from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit

KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER: Final = "public, max-age=31536000, immutable"
"""The URL of a file changes with its content."""


async def send_file(visit: Visit) -> web.StreamResponse:
    """Answer with a file."""
    name = visit.request.match_info["name"]
    content = _list_files().get(name)
    if content is None:
        raise ConsoleRefusal(404, "the console has no such file")
    kind = KINDS[name[name.rindex(".") :]]
    return web.Response(body=content, content_type=kind, charset="utf-8", headers={"Cache-Control": FOR_EVER})


@cache
def _list_files() -> dict[str, bytes]:
    folder = files("relay.console") / "static"
    found = {one.name: one for one in folder.iterdir() if one.is_file()}
    found |= {f"vendor/{one.name}": one for one in (folder / "vendor").iterdir()}
    return {name: one.read_bytes() for name, one in found.items() if name[name.rfind(".") :] in KINDS}
