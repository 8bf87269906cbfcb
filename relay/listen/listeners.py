"""Opens the sockets that a process listens on: one set for each worker."""

import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relay.config import Address, UnixAddress, format_address, takes_ipv4
from relay.listen.error import convert_errors

BACKLOG: Final = 1024


def bind(addresses: Sequence[Address], key: str, workers: int = 1) -> list[list[socket.socket]]:
    """Return the listening sockets of each worker. Raises ListenError if an address cannot be bound.

    `key`: the setting that names the addresses, such as "ingest.listen".

    The kernel spreads the connections of a TCP address over the workers (SO_REUSEPORT). A path has one socket, and any
    free worker takes the next connection.
    """
    found: list[list[socket.socket]] = [[] for _ in range(workers)]
    try:
        for address in addresses:
            with convert_errors(key, address):
                _bind(address, found, takes_ipv4=takes_ipv4(address, addresses))
    except OSError:
        close(found)
        raise
    return found


def close(sockets: Sequence[Sequence[socket.socket]]) -> None:
    """Close all these sockets."""
    for one in {one for mine in sockets for one in mine}:
        one.close()


def describe_sockets(sockets: Sequence[socket.socket], *, tls: bool) -> list[str]:
    """Return the addresses of these sockets, for people."""
    scheme = "https://" if tls else "http://"
    return [format_address(one.getsockname(), scheme) for one in sockets]


def _bind(address: Address, found: list[list[socket.socket]], *, takes_ipv4: bool) -> None:
    if isinstance(address, UnixAddress):
        shared = _bind_path(address.path)
        for mine in found:
            mine.append(shared)
        return
    for family, *_, where in dict.fromkeys(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)):
        first = _bind_port(family, where, takes_ipv4=takes_ipv4)
        found[0].append(first)
        for mine in found[1:]:
            mine.append(_bind_port(family, first.getsockname(), takes_ipv4=takes_ipv4, beside=first))


def _bind_port(family: int, where: object, *, takes_ipv4: bool, beside: socket.socket | None = None) -> socket.socket:
    """Open a listening socket at a port; `beside` is another of relay's sockets that shares the port."""
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not takes_ipv4)
        if beside is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(where)  # type: ignore[arg-type]
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _bind_path(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        # Remove a socket file that nobody listens on, left over from a crash
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(str(path))
        path.chmod(0o666)  # as open as a local port; who may reach it is up to its folder
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one
