"""Checks the address of a client against a source's `allow`."""

from aiohttp import web

from relay.api.internal import Networks
from relay.ingest.problem import Problem
from relay.listen import find_client


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
