"""Finds what is claimed twice: addresses, paths of the ingest listener, files."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import PurePath
from typing import Final

from relay.config.address import Address, TcpAddress, UnixAddress, takes_ipv4
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_off
from relay.config.mistake import Mistake, format_path
from relay.config.plugins.traits import Traits

RESERVED_PATHS: Final = ("/healthz", "/readyz", "/openapi.yaml")
"""Paths that the ingest listener itself answers."""
PLACEHOLDER: Final = re.compile(r"\{(\w+)[^}]*\}")
NAMES: Final = {"date": "????-??-??", "hour": "??"}
"""Globs for placeholders of a file's path. Other placeholders match anything."""
LOCALHOST: Final = ("127.0.0.1", "::1")


def find_address_clashes(listeners: Mapping[str, tuple[Address, ...]], merged: Merged) -> Iterator[Mistake]:
    """Find addresses that two listeners want, or one listener twice. `listeners`: by table, such as "ingest"."""
    taken: list[tuple[Address, set[str], KeyPath]] = []
    for table, addresses in listeners.items():
        written = merged.get_tables(table).get("listen")
        for number, address in enumerate(addresses):
            key: KeyPath = (table, "listen", number) if isinstance(written, list) else (table, "listen")
            hosts = _list_hosts(address, addresses)
            first = next((path for other, there, path in taken if _do_clash(address, hosts, other, there)), None)
            if first is None:
                taken.append((address, hosts, key))
            else:
                owner = f"{format_path(first)} ({merged.find_place(first) or 'its default'})"
                yield merged.make_mistake(key, f"{address} is taken already by {owner}: choose another port or path")


def _do_clash(one: Address, hosts: set[str], other: Address, others: set[str]) -> bool:
    """Return whether both cannot be bound."""
    if isinstance(one, UnixAddress) or isinstance(other, UnixAddress):
        return one == other
    return one.port == other.port != 0 and any(_do_overlap(mine, yours) for mine in hosts for yours in others)


def _list_hosts(address: Address, beside: tuple[Address, ...]) -> set[str]:
    """Return the hosts of an address."""
    if not isinstance(address, TcpAddress):
        return set()
    if address.host == "localhost":
        return set(LOCALHOST)
    return {address.host, *(["0.0.0.0"] if takes_ipv4(address, beside) else [])}  # noqa: S104  nothing is bound here


def _do_overlap(one: str, other: str) -> bool:
    try:
        first, second = ip_address(one), ip_address(other)
    except ValueError:  # the name of a host, which may have any address
        return one.lower() == other.lower()
    either = first.is_unspecified or second.is_unspecified
    return first == second or (first.version == second.version and either)


def find_path_clashes(merged: Merged) -> Iterator[Mistake]:
    """Find sources on a path that another source or relay itself answers."""
    taken = dict.fromkeys(RESERVED_PATHS, "relay itself")
    for name, table in merged.list_tables("source"):
        path = table.get("path")
        if isinstance(path, str) and not is_off(table):
            if path in taken:
                yield merged.make_mistake(("source", name, "path"), f"{path} is taken already by {taken[path]}")
            taken.setdefault(path, f"[source.{name}]")


def find_shared_files(traits: Mapping[str, Traits], merged: Merged) -> Iterator[Mistake]:
    """Find connectors that write to another connector's file, or to something that is no file."""
    writers: dict[str, str] = {}
    for name, known in traits.items():
        if (path := known.local_path) is not None:
            is_other = False
            with suppress(OSError):  # a path in a folder that cannot be read
                is_other = path.is_absolute() and path.exists() and not path.is_file()
            if is_other:
                yield merged.make_mistake(("connector", name, "path"), f"{path} is no regular file: it takes no events")
            other = writers.setdefault(os.path.realpath(path), name)
            if other != name:
                reason = f"[connector.{other}] writes to the same file: their lines are mixed there; give each its own"
                yield merged.make_mistake(("connector", name, "path"), reason)
    yield from _find_removers({writer: path for path, writer in writers.items()}, merged)


def _find_removers(paths: Mapping[str, str], merged: Merged) -> Iterator[Mistake]:
    """Find connectors that would remove another connector's old files, whose names match their path."""
    for name, table in merged.list_tables("connector"):
        if name in paths and (table.get("keep") or table.get("max_total")):
            names = PLACEHOLDER.sub(lambda found: NAMES.get(found[1], "*"), str(table.get("path")))
            pattern = PurePath(os.path.realpath(names))
            for other, path in paths.items():
                same_depth = len(PurePath(path).parts) == len(pattern.parts)
                if other != name and same_depth and PurePath(path).match(str(pattern)):
                    reason = f"also removes the files of [connector.{other}], by keep or max_total"
                    yield merged.make_mistake(("connector", name, "path"), f"{reason}: give each a folder of its own")
