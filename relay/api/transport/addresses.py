"""Which addresses: a list of networks in CIDR notation, in settings."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, PlainSerializer

UNIX: Final = "unix"
Peer = IPv4Address | IPv6Address | Literal["unix"]
"""Where a request comes from: an IP address, or a unix socket of this machine."""

EXPECTED: Final = 'expected networks such as ["10.0.0.0/8", "2001:db8::/32", "unix"]'


@dataclass(frozen=True, slots=True)
class Networks:
    """IP networks, and whether the unix sockets of this machine are among them."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def __contains__(self, address: Peer | None) -> bool:
        """Return whether an address is in one of the networks; False for None, an unknown address."""
        if address is None or address == UNIX:
            return address is not None and self.unix
        return any(address in network for network in self.networks)


def parse_networks(value: object) -> Networks:
    """Read one network or a list of them, as an admin writes them. Raises ValueError."""
    if isinstance(value, Networks):
        return value
    entries = value if isinstance(value, list | tuple) else [value]
    found, wrong = list[IPv4Network | IPv6Network](), list[str]()
    for entry in entries:
        if entry == UNIX:
            continue
        text = entry if isinstance(entry, str) else ""
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            wrong.append(f"{entry!r} is no network")
            continue
        try:
            found.append(ip_network(text))
        except ValueError:
            wrong.append(f'"{text}" is an address in a network: write "{network}", or leave out the /')
    if wrong:
        raise ValueError(f"{EXPECTED}: {'; '.join(wrong)}")
    return Networks(tuple(found), UNIX in entries)


def write_networks(networks: Networks) -> list[str]:
    """Write what `parse_networks` reads."""
    return [*map(str, networks.networks), *([UNIX] if networks.unix else ())]


NetworkList = Annotated[
    Networks,
    BeforeValidator(parse_networks, json_schema_input_type=str | list[str]),
    PlainSerializer(write_networks, when_used="json"),
]
"""Networks, written as a list of CIDR texts or single addresses; `"unix"` is whoever comes by a unix socket."""
