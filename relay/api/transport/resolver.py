"""Looks up the names of a connector's destinations."""

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

RunBlocking = Callable[..., Awaitable[Any]]
"""Does work in a thread: `Connector.run_blocking`."""


class Resolver(AbstractResolver):
    """Looks names up in threads of the connector's own: a name server that hangs holds up no other connector."""

    def __init__(self, run_blocking: RunBlocking) -> None:
        self._run_blocking = run_blocking

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises socket.gaierror."""
        found: list[ResolveResult] = await self._run_blocking(_look_up, host, port, family)
        return found

    async def close(self) -> None:
        """Do nothing."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV  # with the scope of a link-local address
    return [
        ResolveResult(
            hostname=host,
            host=socket.getnameinfo(address, numeric)[0],
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]
