"""Where a request comes from, and who can pretend what about that."""

from ipaddress import ip_address
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import ValidationError

from relay.api import SourceSettings
from relay.api.transport.addresses import Networks, Peer, parse_networks
from relay.listen.client_address import describe_client, parse_hop, skip_proxies

PROXIES = parse_networks(["10.0.0.0/8", "fd00::/8", "unix"])


@pytest.mark.parametrize(
    ("peer", "hops", "expected"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "203.0.113.5", "198.51.100.7"),  # no proxy of ours: whatever it says
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "192.0.2.66, 203.0.113.5", "203.0.113.5"),  # the sender made up the left one
        ("10.0.0.1", "10.0.0.9, 203.0.113.5", "203.0.113.5"),  # even if it looks like a proxy
        ("10.0.0.1", "unix, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5, 10.0.0.2", "203.0.113.5"),  # two proxies
        ("10.0.0.1", "203.0.113.5,10.0.0.2,fd00::2", "203.0.113.5"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # a sender within
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", None),
        ("10.0.0.1", "unix", None),
        ("10.0.0.1", "203.0.113.5,", None),  # nothing on the right is nothing
        ("10.0.0.1", "203.0.113.5, evil", None),
        ("10.0.0.1", "203.0.113.5:4711", "203.0.113.5"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "::ffff:203.0.113.5", "203.0.113.5"),
        ("unix", "203.0.113.5", "203.0.113.5"),
        ("unix", "", "unix"),
    ],
)
def test_only_proxies_are_believed_and_only_about_who_came_to_them(peer: str, hops: str, expected: str | None) -> None:
    came = "unix" if peer == "unix" else ip_address(peer)
    found = skip_proxies(came, hops.split(",") if hops else [], PROXIES)
    assert (found and str(found)) == expected


def test_whom_nobody_knows_has_a_word_in_the_log() -> None:
    transport = Mock()
    transport.get_extra_info.side_effect = {"peername": None}.get
    assert describe_client(make_mocked_request("POST", "/", transport=transport), PROXIES) == "unknown"
    transport.get_extra_info.side_effect = {"peername": ("192.0.2.7", 4711)}.get
    assert describe_client(make_mocked_request("POST", "/", transport=transport), PROXIES) == "192.0.2.7"


def test_without_proxies_nobody_is_believed() -> None:
    for peer in ("unix", ip_address("127.0.0.1")):
        assert skip_proxies(peer, ["203.0.113.5"], Networks()) == peer  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("2001:db8:0:ffff::1", True),
        ("2001:db9::1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.1.2.3", True),
        ("unix", False),
        (None, False),
    ],
)
def test_an_address_is_in_the_networks_or_not(address: str | None, inside: bool) -> None:
    networks = parse_networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])
    peer: Peer | None = "unix" if address == "unix" else parse_hop(address or "")
    assert (peer in networks) is inside


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (["10.0.0.1/8"], '"10.0.0.1/8" is an address in a network: write "10.0.0.0/8", or leave out the /'),
        (["10.0.0.0/33"], ": '10.0.0.0/33' is no network"),
        (["braze.com"], ": 'braze.com' is no network"),
        (
            ["a", "10.0.0.0/8", "b", "10.0.0.1/8"],
            ": 'a' is no network; 'b' is no network; \"10.0.0.1/8\" is an address",
        ),
        ([8], ": 8 is no network"),
        ({"a": 1}, "expected networks such as"),
    ],
)
def test_a_mistake_is_told(written: object, said: str) -> None:
    with pytest.raises(ValidationError, match="allow") as error:
        SourceSettings.model_validate({"type": "x", "path": "/x", "allow": written})
    assert said in str(error.value)


def test_networks_are_written_as_they_are_read() -> None:
    given = {"type": "x", "path": "/x", "allow": ["10.0.0.0/8", "2001:db8::1/128", "unix"]}
    assert SourceSettings.model_validate(given).model_dump(mode="json")["allow"] == given["allow"]
