"""Finds the address of a client, also behind a reverse proxy."""

import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web

from relay.api.internal import UNIX, Networks, Peer


def find_client(request: web.BaseRequest, proxies: Networks) -> Peer | None:
    """Return the address of the client; None if a trusted proxy does not tell it."""
    hops = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return skip_proxies(find_peer(request), hops.split(",") if hops else [], proxies)


def find_peer(request: web.BaseRequest) -> Peer | None:
    """Return the other end of the connection: the client, or the last proxy."""
    connection = request.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        return UNIX
    return parse_hop(request.remote or "")


def describe_client(request: web.BaseRequest, proxies: Networks) -> str:
    """Return the address of the client as text for the log."""
    return str(find_client(request, proxies) or "unknown")


def skip_proxies(peer: Peer | None, hops: Sequence[str], proxies: Networks) -> Peer | None:
    """Return the first address outside the proxies, counted from relay. Anything further left may be forged.

    `hops` are the entries of X-Forwarded-For. None: a trusted proxy names something that is no address.
    """
    address, left = peer, list(hops)
    while address in proxies and left:
        address = parse_hop(left.pop())
    return address


def parse_hop(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address as proxies write it, with or without a port; return None if the text is no address."""
    match = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+", text.strip())
    with suppress(ValueError):
        address = ip_address(match[1] or match[2] if match else text.strip())
        return getattr(address, "ipv4_mapped", None) or address  # as a listener for both sees IPv4
    return None
