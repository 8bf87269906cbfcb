"""Finds the address of a client, also behind a reverse proxy, and checks it against a source's `allow`."""

import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web

from relay.api.internal import UNIX, Networks, Peer
from relay.ingest.problem import Problem


class Allowed:
    """The networks of a source's `allow`."""

    def __init__(self, networks: Networks, proxies: Networks) -> None:
        self._networks, self._proxies = networks, proxies

    def check(self, request: web.BaseRequest) -> None:
        """Check the address of the client. Raises Problem (403)."""
        address = find_client(request, self._proxies)
        if address not in self._networks:
            raise Problem(
                403, f"requests from {address or 'an unknown address'} are not taken here (the source's allow)"
            )


def find_client(request: web.BaseRequest, proxies: Networks) -> Peer | None:
    """Return the address of the client; None if a trusted proxy does not tell it."""
    connection = request.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        peer: Peer | None = UNIX
    else:
        peer = parse_hop(request.remote or "")
    hops = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return skip_proxies(peer, hops.split(",") if hops else [], proxies)


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
