"""The dsn of a PostgreSQL database: a secret in libpq's own words, and what can be said of it without a connection.

The driver is optional: only `load_driver` and a `Dsn` that was read import it.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Final

from relay.api import Secret
from relay.api.internal import find_closest
from relay.config.address import TcpAddress

VERIFIED: Final = "verify-full"
"""The only `sslmode` of libpq that verifies the certificate and the name of a server."""
AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
"""The authorities that a Debian machine trusts."""
EXAMPLE: Final = "host=db1 dbname=relay user=relay password=..."
CHOICES: Final[Mapping[str, str]] = {
    "sslmode": "disable, allow, prefer, require, verify-ca or verify-full",
    "target_session_attrs": "any, read-write, read-only, primary, standby or prefer-standby",
    "channel_binding": "disable, prefer or require",
    "gssencmode": "disable, prefer or require",
    "load_balance_hosts": "disable or random",
}
"""The values of words that libpq looks at only when it connects."""
NUMBERS: Final = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
QUOTES: Final = "put a value with spaces into single quotes"
ESCAPES: Final = "in a URL write : / @ ? of user and password as %3A %2F %40 %3F"
_UNKNOWN: Final = re.compile('(?:connection option|query parameter): ?"(.+)"|connection option "(.+)"')


def load_driver() -> None:
    """Import the driver of PostgreSQL. Raises ValueError with the command that installs the driver."""
    try:
        import psycopg
    except ImportError as error:
        command = f"{sys.executable} -m pip install 'currents-relay[postgres]'"
        raise ValueError(f"the driver of PostgreSQL cannot be loaded ({error}): {command}") from None
    del psycopg


class Dsn(Secret):
    """A reference to a dsn."""

    @property
    def doubt(self) -> str | None:
        """Return what is allowed in the dsn but probably a mistake: a server that relay does not verify, or cannot, or
        several servers of which some may be read-only."""
        if self.problem is not None:
            return None
        words = read_words(self._value)
        authorities = words.get("sslrootcert")
        mode = VERIFIED if authorities == "system" else words["sslmode"]
        cure = f"sslrootcert={AUTHORITIES} or the file of your own authority"
        if distant := " and ".join(list_distant_hosts(words)):
            if mode != VERIFIED:
                said = f"{self} has sslmode={mode}: relay does not verify that it talks to {distant}"
                return f"{said}; write sslmode={VERIFIED}, and {cure}"
            if not authorities:
                return f"{self} has no sslrootcert, without which no server is verified: write {cure}"
            if authorities == "system" and "SSL_CERT_FILE" not in os.environ and is_bundled():
                return f"{self} has sslrootcert=system, and the TLS of this driver knows no authorities: write {cure}"
        if "," in words.get("host", "") and words["target_session_attrs"] == "any":
            said = f"{self} names several servers, of which relay may reach one that is read-only"
            return f"{said}: write target_session_attrs=read-write"
        return None

    def _find_flaw(self) -> str | None:
        try:
            read_words(self._value)
        except ImportError:  # the setting `backend` says so
            return None
        except ValueError as error:
            return f"{self} {error}"
        return None


def is_bundled() -> bool:
    """Return whether the driver has a TLS of its own, which looks for authorities in a place of its own."""
    from psycopg import pq

    return pq.__impl__ == "binary"


def read_words(dsn: str) -> Mapping[str, str]:
    """Return the words of a dsn, with libpq's defaults and those of the environment, such as PGSSLMODE.

    Raises ValueError, which repeats nothing of the dsn.
    """
    from psycopg import Error, pq

    try:
        options = [*pq.Conninfo.get_defaults(), *pq.Conninfo.parse(dsn.encode())]
    except Error as error:
        known = [one.keyword.decode() for one in pq.Conninfo.get_defaults()]
        raise ValueError(_describe_unreadable(dsn, str(error), known)) from None
    words = {one.keyword.decode(): one.val.decode() for one in options if one.val is not None}
    if flaw := next(_find_flaws(words, is_url="://" in dsn), ""):
        raise ValueError(flaw)
    return words


def _describe_unreadable(dsn: str, said: str, known: list[str]) -> str:
    """Name the word that libpq does not know, unless the word may be a part of a password."""
    expected = f"expected words such as {EXAMPLE}"
    found = _UNKNOWN.search(said)
    word = next(filter(None, found.groups()), "") if found else ""
    meant = find_closest(word, known)
    if word and (meant or not ("password" in dsn[: dsn.find(word)] or "://" in dsn)):
        return f"has the unknown word {word}: {f'write {meant}' if meant else expected}"
    if "://" in dsn:
        return f"cannot be read by libpq: {ESCAPES}"
    return f"cannot be read by libpq: {QUOTES}; {expected}"


def _find_flaws(words: Mapping[str, str], *, is_url: bool) -> Iterator[str]:
    """Find values that libpq would refuse when it connects. A URL with a stray : may have its password as the port."""
    ports = words.get("port", "").split(",")
    for port in ports:
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 1 << 16):
            said = f"a port that is no number from 1 to 65535: {ESCAPES}"
            yield f"has {said}" if is_url else f"has port={port}: expected a number from 1 to 65535"
    hosts = len((words.get("hostaddr") or words.get("host", "")).split(","))
    if len(ports) not in (1, hosts):
        yield f"has {hosts} hosts and {len(ports)} ports: write one port for each host, or one for all"
    for word, choices in CHOICES.items():
        if word in words and words[word] not in re.split(", | or ", choices):
            yield f"has {word}={words[word]}: expected {choices}"
    for word in NUMBERS:
        if word in words and not re.fullmatch(r"\s*[+-]?\d{1,9}\s*", words[word], re.ASCII):
            yield f"has {word}={words[word]}: expected a number"


def list_distant_hosts(words: Mapping[str, str]) -> Iterator[str]:
    """Yield the hosts of a dsn that are reached over a network. Without a host, libpq takes a unix socket."""
    names, addresses = words.get("host", "").split(","), words.get("hostaddr", "").split(",")
    for name, address in zip_longest(names, addresses, fillvalue=""):
        reached = address or name
        if reached and not reached.startswith(("/", "@")) and not TcpAddress(reached, 0).is_loopback:
            yield name or address


class GivenDsn(Dsn):
    """A dsn that a command was given in words. Printing shows no word of it."""

    def __init__(self, words: str) -> None:
        self._words = words
        super().__init__("option", "DSN")

    def _read(self) -> str:
        return self._words
