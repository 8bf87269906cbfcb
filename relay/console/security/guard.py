"""Checks of a request before its page sees it: the host, the origin, the form and its token.

DNS rebinding: a foreign site whose name suddenly means this machine sends its own name as Host. CSRF: a foreign site
can make a browser send a form, but knows no token, and the browser says where the form comes from.
"""

import asyncio
import re
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from hmac import compare_digest
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from relay.api.internal import Networks
from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.sessions import Session
from relay.listen import find_peer

MOST_FORM: Final = 1 << 20
"""Bytes of a form."""
FORM_S: Final = 30.0
"""Seconds for a form to arrive."""
SILENT: Final = (
    "your browser does not say which site its forms come from; browsers say so over https and at localhost only"
)
"""Without TLS browsers send no Sec-Fetch-Site, and with no-referrer they send `Origin: null` from every site."""
HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?")
LOCAL_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of every answer, unless the page sets another one."""


def is_encrypted(request: web.BaseRequest, proxies: Networks) -> bool:
    """Return whether the browser speaks TLS, to the console or to a trusted proxy."""
    forwarded = request.headers.get("X-Forwarded-Proto", "") == "https"
    return request.secure or (forwarded and find_peer(request) in proxies)


def check_host(request: web.BaseRequest, hosts: Collection[str]) -> None:
    """Check that the browser means this console. Raises ConsoleRefusal (421)."""
    found = HOST.fullmatch(request.headers.get("Host", ""))
    name = (found[1] or found[2]).lower() if found else ""
    here = _find_own_address(request)
    is_local = here is None or here.is_loopback
    with suppress(ValueError):
        if here is not None and ip_address(name) == here:
            return
    if name and (name in hosts or (name == "localhost" and is_local)):
        return
    raise ConsoleRefusal(421, "the console does not answer to this name of its host: add the name to console.hosts")


def _find_own_address(request: web.BaseRequest) -> IPv4Address | IPv6Address | None:
    """Return the address at which the connection came in; None for a unix socket."""
    connection = request.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return None
    address = ip_address(str(request.get_extra_info("sockname")[0]).partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def check_origin(request: web.BaseRequest) -> None:
    """Check that a page of the console sends this form. Raises ConsoleRefusal (403)."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = urlsplit(request.headers.get("Origin", ""))
    is_ours = site == "same-origin" if site is not None else bool(origin.netloc) and origin.netloc == request.host
    if not is_ours:
        foreign = "this form does not come from a page of the console"
        raise ConsoleRefusal(403, foreign if site else f"the console does not take this form: {SILENT}")


def names_its_site(request: web.BaseRequest) -> bool:
    """Return whether the browser says where its requests come from. Then it says so of forms, too."""
    return "Sec-Fetch-Site" in request.headers


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Read a form; of a field that comes twice, the last value counts. Raises ConsoleRefusal (408, 413, 415)."""
    if (request.content_length or 0) > MOST_FORM:
        raise ConsoleRefusal(413, f"the form is larger than {MOST_FORM >> 20} MiB", {"Connection": "close"})
    if request.content_type != "application/x-www-form-urlencoded":
        raise ConsoleRefusal(415, "this is no form of the console")
    try:
        async with asyncio.timeout(FORM_S):
            found = await request.post()
    except TimeoutError:
        raise ConsoleRefusal(408, f"the form did not arrive within {FORM_S:g} s", {"Connection": "close"}) from None
    except web.HTTPRequestEntityTooLarge:
        raise ConsoleRefusal(413, f"the form is larger than {MOST_FORM >> 20} MiB", {"Connection": "close"}) from None
    except ValueError:
        raise ConsoleRefusal(400, "the form cannot be read") from None
    return {name: value for name, value in found.items() if isinstance(value, str)}


def check_token(session: Session, form: Mapping[str, str]) -> None:
    """Check that the form was made for this session. Raises ConsoleRefusal (403)."""
    offered = form.get("token", "").encode("utf-8", "surrogatepass")
    if not compare_digest(offered, session.token.encode()):
        raise ConsoleRefusal(403, "the form was not made for this session: open its page again, and send it from there")


def choose_page(wanted: str) -> str:
    """Return the page to go to: the wanted one if it is one of the console, else the first page."""
    return wanted if LOCAL_PATH.fullmatch(wanted) else "/"
