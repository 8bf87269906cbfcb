"""Finds places that are claimed twice: addresses, paths of the ingest listener, files."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import Final

from relay.config.address import Address, TcpAddress, UnixAddress, takes_ipv4
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_off
from relay.config.mistake import Mistake, dotted
from relay.config.plugins.traits import Traits

RESERVED_PATHS: Final = ("/healthz", "/readyz", "/openapi.yaml")
"""What the ingest listener itself answers."""
PLACEHOLDER: Final = re.compile(r"\{(\w+)[^}]*\}")
NAMES: Final = {"date": "????-??-??", "hour": "??"}
"""What placeholders of a file's path become, as a glob; others become anything."""
LOCALHOST: Final = ("127.0.0.1", "::1")


def address_clashes(listeners: Mapping[str, tuple[Address, ...]], merged: Merged) -> Iterator[Mistake]:
    """Find addresses that two listeners want, or one listener twice; `listeners` has them by table, such as
    "ingest"."""
    taken: list[tuple[Address, set[str], KeyPath]] = []
    for table, addresses in listeners.items():
        written = merged.named(table).get("listen")
        for number, address in enumerate(addresses):
            key: KeyPath = (table, "listen", number) if isinstance(written, list) else (table, "listen")
            hosts = _hosts(address, addresses)
            first = next((path for other, there, path in taken if _clash(address, hosts, other, there)), None)
            if first is None:
                taken.append((address, hosts, key))
            else:
                owner = f"{dotted(first)} ({merged.place(first) or 'its default'})"
                yield merged.mistake(key, f"{address} is taken already by {owner}: choose another port or path")


def _clash(one: Address, hosts: set[str], other: Address, others: set[str]) -> bool:
    """Whether both cannot be had."""
    if isinstance(one, UnixAddress) or isinstance(other, UnixAddress):
        return one == other
    return one.port == other.port != 0 and any(_overlap(mine, yours) for mine in hosts for yours in others)


def _hosts(address: Address, beside: tuple[Address, ...]) -> set[str]:
    """The hosts that an address stands for."""
    if not isinstance(address, TcpAddress):
        return set()
    if address.host == "localhost":
        return set(LOCALHOST)
    return {address.host, *(["0.0.0.0"] if takes_ipv4(address, beside) else [])}  # noqa: S104  nothing is bound here


def _overlap(one: str, other: str) -> bool:
    try:
        first, second = ip_address(one), ip_address(other)
    except ValueError:  # the name of a host, which may have any address
        return one.lower() == other.lower()
    either = first.is_unspecified or second.is_unspecified
    return first == second or (first.version == second.version and either)


def path_clashes(merged: Merged) -> Iterator[Mistake]:
    """Find sources on a path that another source or relay itself answers."""
    taken = dict.fromkeys(RESERVED_PATHS, "relay itself")
    for name, table in merged.tables("source"):
        path = table.get("path")
        if isinstance(path, str) and not is_off(table):
            if path in taken:
                yield merged.mistake(("source", name, "path"), f"{path} is taken already by {taken[path]}")
            taken.setdefault(path, f"[source.{name}]")


def files_of_several(traits: Mapping[str, Traits], merged: Merged) -> Iterator[Mistake]:
    """Find connectors that write to the file of another one, or to what is no file."""
    writers: dict[str, str] = {}
    for name, known in traits.items():
        if (path := known.local_path) is not None:
            if path.is_absolute() and _is_no_file(path):
                yield merged.mistake(("connector", name, "path"), f"{path} is no regular file: it takes no events")
            other = writers.setdefault(os.path.realpath(path), name)
            if other != name:
                reason = f"[connector.{other}] writes to the same file: their lines are mixed there; give each its own"
                yield merged.mistake(("connector", name, "path"), reason)
    yield from _removers_of_others({writer: path for path, writer in writers.items()}, merged)


def _removers_of_others(paths: Mapping[str, str], merged: Merged) -> Iterator[Mistake]:
    """Find connectors that would remove the old files of another one: those have names that their path can make."""
    for name, table in merged.tables("connector"):
        if name in paths and (table.get("keep") or table.get("max_total")):
            names = PLACEHOLDER.sub(lambda found: NAMES.get(found[1], "*"), str(table.get("path")))
            pattern = PurePath(os.path.realpath(names))
            for other, path in paths.items():
                same_depth = len(PurePath(path).parts) == len(pattern.parts)
                if other != name and same_depth and PurePath(path).match(str(pattern)):
                    reason = f"also removes the files of [connector.{other}], by keep or max_total"
                    yield merged.mistake(("connector", name, "path"), f"{reason}: give each a folder of its own")


def _is_no_file(path: Path) -> bool:
    """Whether something else than a file is at this path, as far as one may look."""
    with suppress(OSError):
        return path.exists() and not path.is_file()
    return False
