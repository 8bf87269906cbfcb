"""Addresses to listen at: `host:port`, `[v6]:port` or `unix:/path`."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

from relay.socket_path import LONGEST

EXPECTED: Final = 'expected an address such as "127.0.0.1:8080", "[::1]:8080" or "unix:/run/relay/ingest.sock"'

LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (name or IP address, IPv6 without brackets) and a port; port 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def takes_ipv4(address: Address, all_addresses: Sequence[Address]) -> bool:
    """Return whether an address takes IPv4 beside IPv6: `[::]` does, unless another one has its port for IPv4."""
    if not isinstance(address, TcpAddress) or address.host != "::":
        return False
    others = (one for one in all_addresses if isinstance(one, TcpAddress) and ":" not in one.host)
    return not any(one.port == address.port != 0 for one in others)


def format_address(name: object, scheme: str = "") -> str:
    """Format a socket's address for people, from the result of getsockname(2)."""
    match name:
        case (str() as host, int() as port, *_):
            return f"{scheme}[{host}]:{port}" if ":" in host else f"{scheme}{host}:{port}"
    return f"unix:{name}"


def parse_address(value: object) -> Address:
    """Parse an address of a setting. Raises ValueError."""
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    text = value if isinstance(value, str) else ""
    if re.fullmatch(r"unix:/[^\0]+", text):
        if (size := len(os.fsencode(text.removeprefix("unix:")))) > LONGEST:
            raise ValueError(
                f"a unix socket's path has {LONGEST} bytes at most, this one has {size}: take a shorter one"
            )
        return UnixAddress(Path(text.removeprefix("unix:")))
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,9})", text)
    if match is None:
        raise ValueError(f"{EXPECTED}, got {value!r}")
    if int(match[3]) > LAST_PORT:
        raise ValueError(f"{value!r} has a port that does not exist: {LAST_PORT} is the last one")
    return TcpAddress(match[1] or match[2], int(match[3]))


def _parse_any(value: object) -> tuple[Address, ...]:
    return () if value in ([], ()) else _parse_listen(value)


def _parse_listen(value: object) -> tuple[Address, ...]:
    several = value if isinstance(value, list | tuple) else [value]
    if not several:
        raise ValueError(EXPECTED)
    return tuple(map(parse_address, several))


def _write_listen(listen: tuple[Address, ...]) -> str | list[str]:
    addresses = [*map(str, listen)]
    return addresses[0] if len(addresses) == 1 else addresses


Listen = Annotated[
    tuple[Address, ...],
    BeforeValidator(_parse_listen, json_schema_input_type=str | list[str]),
    PlainSerializer(_write_listen, when_used="json"),
]
"""One address, or several in a list."""

ListenIfAny = Annotated[
    tuple[Address, ...],
    BeforeValidator(_parse_any, json_schema_input_type=str | list[str]),
    PlainSerializer(_write_listen, when_used="json"),
]
"""The same, or an empty list for none."""
