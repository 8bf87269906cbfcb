"""Where a request comes from, also behind a reverse proxy, and whether a source takes requests from there."""

import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web

from relay.api.internal import UNIX, Networks, Peer
from relay.ingest.problem import Problem


class Allowed:
    """The networks that a source takes requests from."""

    def __init__(self, networks: Networks, proxies: Networks) -> None:
        self._networks, self._proxies = networks, proxies

    def check(self, request: web.BaseRequest) -> None:
        """Raises Problem (403) for a request from elsewhere."""
        address = client(request, self._proxies)
        if address not in self._networks:
            raise Problem(
                403, f"requests from {address or 'an unknown address'} are not taken here (the source's allow)"
            )


def client(request: web.BaseRequest, proxies: Networks) -> Peer | None:
    """Where a request comes from; None if a proxy that is trusted does not say."""
    hops = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return sender(_peer(request), hops.split(",") if hops else [], proxies)


def whence(request: web.BaseRequest, proxies: Networks) -> str:
    """The same for the log."""
    return str(client(request, proxies) or "unknown")


def sender(peer: Peer | None, hops: Sequence[str], proxies: Networks) -> Peer | None:
    """The first address outside of the proxies, seen from here: anything further left, its owner may have made up.

    `hops` are what X-Forwarded-For says. None if a proxy that is trusted names something that is no address.
    """
    address, left = peer, list(hops)
    while address in proxies and left:
        address = parse_hop(left.pop())
    return address


def parse_hop(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address as proxies write it, some with a port; None if it is none."""
    match = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+", text.strip())
    with suppress(ValueError):
        address = ip_address(match[1] or match[2] if match else text.strip())
        return getattr(address, "ipv4_mapped", None) or address  # as a listener for both sees IPv4
    return None


def _peer(request: web.BaseRequest) -> Peer | None:
    connection = request.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        return UNIX
    return parse_hop(request.remote or "")
