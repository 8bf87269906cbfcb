"""The settings of [console]: the console in a browser, which is a process of its own, and its users."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from relay.api import Contradiction, Secret, Settings
from relay.api.internal import NetworkList, Networks
from relay.config.address import Address, Listen, TcpAddress
from relay.config.tls import TlsSettings

LABEL: Final = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST: Final = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*")
HEADER: Final = re.compile("[A-Za-z0-9-]{1,100}")
LONGEST_USER: Final = 100
"""Characters of a user's name. The history keeps as many."""


def _check_host(host: str) -> str:
    if not HOST.fullmatch(host):
        try:
            ip_address(host)
        except ValueError:
            expected = 'expected the name of a host, without scheme, port and path, such as "relay.example.com"'
            raise ValueError(f"{expected}, got {host!r}") from None
    return host.lower()


def _check_header(header: str) -> str:
    if not HEADER.fullmatch(header):
        raise ValueError(f'expected the name of a header such as "X-Remote-User", got {header!r}')
    return header


def _check_user(name: str) -> str:
    if not (name.isascii() and name.isprintable() and name == name.strip() and 0 < len(name) <= LONGEST_USER):
        raise ValueError(f"a user's name has 1 to {LONGEST_USER} printable ASCII characters, no blank first or last")
    return name


HostName = Annotated[str, AfterValidator(_check_host)]
HeaderName = Annotated[str, AfterValidator(_check_header)]
UserName = Annotated[str, AfterValidator(_check_user)]


def is_local(address: Address) -> bool:
    """Return whether only this machine reaches an address."""
    return not isinstance(address, TcpAddress) or address.is_loopback


class UserSecret(Secret):
    """A reference to a secret that a user types into a field of one line."""

    def _find_flaw(self) -> str | None:
        if not self._value.isprintable():
            return f"{self} cannot be typed: it holds a line break or another control character"
        return None


class ConsoleUser(Settings):
    """A user of the console. NAME is what the user types to sign in, or what the proxy says in `user_header`.

    A user without a table has no right, whatever the proxy says. A user who leaves conf.d is signed out.
    """

    secret: UserSecret | None = None
    """The secret that the user types to sign in, as a reference: `{ file = "/var/lib/relay/secrets/anna" }`. Without a
    secret the user comes by `user_header` alone."""
    may: Literal["look", "steer", "configure"]
    """What the user may do. `"look"`: see types, ids, times and counts, and no content of events. `"steer"`: see
    content too, and pause, resume, replay, drop, forget and erase. `"configure"`: all of this, and change the
    configuration."""


class ConsoleSettings(Settings):
    """The console, relay in a browser. The console is a process of its own, and reads this table itself. The daemon
    needs `launch` alone."""

    listen: Listen = (TcpAddress("127.0.0.1", 8082),)
    """Address of the console, such as `"127.0.0.1:8082"`, `"[::1]:8082"` or
    `"unix:/run/relay-console/console.sock"`, or a list of addresses. Beyond loopback addresses and unix sockets the
    console needs a user."""
    tls: TlsSettings | None = None
    """HTTPS on the TCP addresses, as in `ingest.tls`."""
    hosts: tuple[HostName, ...] = ()
    """Names by which browsers reach the console, such as `["relay.example.com"]`, beside the addresses that it listens
    on. The console refuses requests for other hosts."""
    launch: bool = False
    """Whether the console may change the configuration. `false`: users look at the configuration, and the files of the
    console's folder do not count.

    The console's folder is `conf.d` in the state folder. `true` counts in the other folders alone. See
    [the console's folder](../guide/configuration.md#console-folder).
    """
    trusted_proxies: NetworkList = Networks()
    """Proxies in front of the console: networks such as `["10.0.0.0/8"]`, or `"unix"` for unix sockets. The console
    trusts their X-Forwarded-For, X-Forwarded-Proto and `user_header`.

    X-Forwarded-For has the address for the log and for the limit of tries to sign in. Without `trusted_proxies` all
    users behind a proxy share that limit.
    """
    user_header: HeaderName | None = None
    """Header in which a trusted proxy names the user who is signed in there, such as `"X-Remote-User"`. The proxy must
    remove the header from the requests of browsers. It needs `trusted_proxies`."""
    user: dict[UserName, ConsoleUser] = Field(default_factory=dict)
    """The users, a table `[console.user.NAME]` each. Without a user the console listens on loopback addresses and unix
    sockets alone, and signs in whoever has the link that it prints on its terminal."""

    def find_plain(self) -> Address | None:
        """Return an address that others reach by plain http alone; None without any. Nobody can sign in there:
        browsers say of no form which site it comes from."""
        if self.tls or self.trusted_proxies:
            return None
        return next((one for one in self.listen if not is_local(one)), None)

    def contradictions(self) -> Iterator[Contradiction]:
        """Nobody gets in unknown, and a proxy is believed for a reason."""
        for address in self.listen if not self.user else ():
            if not is_local(address):
                reason = f"listen: {address} is neither a loopback address nor a unix socket, and there is no user"
                yield "listen user", f"{reason}: add [console.user.NAME], or listen on 127.0.0.1"
        if self.user_header and not self.trusted_proxies:
            yield "user_header trusted_proxies", "user_header is believed from nobody: set trusted_proxies"
