"""Where relay listens: an IPv6 wildcard takes IPv4 as well.

Looked at as well: several workers, the metrics listener, `allow` and the log (they see IPv4 addresses as such).
"""

import socket

import pytest

from relay.config.address import parse_address, takes_ipv4
from relay.listen.listeners import bind, close


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")


@pytest.mark.parametrize(
    ("listen", "takes"),
    [
        (["[::]:80"], [True]),
        (["[::]:80", "0.0.0.0:80"], [False, False]),
        (["127.0.0.1:80", "[::]:80"], [False, False]),
        (["[::]:80", "127.0.0.1:81", "unix:/x"], [True, False, False]),
        (["[::]:0", "0.0.0.0:0"], [True, False]),
        (["[::1]:80"], [False]),
    ],
)
def test_only_a_wildcard_whose_port_nobody_else_has_takes_ipv4(listen: list[str], takes: list[bool]) -> None:
    addresses = [*map(parse_address, listen)]
    assert [takes_ipv4(one, addresses) for one in addresses] == takes


@pytest.mark.parametrize("workers", [1, 3])
def test_both_kinds_of_clients_reach_every_worker_s_socket(workers: int) -> None:
    sockets = bind([parse_address("[::]:0")], "ingest.listen", workers)
    try:
        port = sockets[0][0].getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), 5):
                pass
    finally:
        close(sockets)


def test_an_ipv4_address_beside_it_has_a_socket_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sockets = bind([parse_address(f"[::]:{port}"), parse_address(f"127.0.0.1:{port}")], "ingest.listen")
    assert [one.family for one in sockets[0]] == [socket.AF_INET6, socket.AF_INET]
    close(sockets)
