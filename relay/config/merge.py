"""Merges the tables of all files, and remembers the file of each key."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final, TypeGuard

from msgspec import Struct, field
from pydantic import BaseModel

from relay.config.files import Document
from relay.config.line_numbers import KeyPath
from relay.config.mistake import Mistake
from relay.guests import contained

OF_A_MACHINE: Final = {"journal": "node", "ingest": "listen", "admin": "listen", "metrics": "listen"}
"""Settings that are others on each of several nodes, by table."""
SECRET_KEYS: Final = ("credential", "file", "env")


class Merged(Struct, frozen=True):
    """The tables of all files as one."""

    table: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Document] = field(default_factory=dict)
    """The file with each key's value, and the file that opens each table first."""

    def get_tables(self, kind: str) -> dict[str, Any]:
        """Return the tables of a kind by name; nothing if the kind is no table."""
        tables = self.table.get(kind)
        return tables if isinstance(tables, dict) else {}

    def list_tables(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """List the named tables of a kind. Anything else, such as a number, is left out."""
        return [(name, table) for name, table in self.get_tables(kind).items() if isinstance(table, dict)]

    def drop(self, kind: str) -> None:
        """Forget all tables of a kind."""
        self.table.pop(kind, None)
        for path in [path for path in self.origins if path[0] == kind]:
            del self.origins[path]

    def digest_tables(self, kinds: Collection[str]) -> dict[str, str]:
        """Return a digest of each table as it is written, such as "journal" or, of these kinds, "connector.heap".

        Settings OF_A_MACHINE do not count, nor does [console]: each machine may have its own, or none.
        """
        tables = {
            name: {key: value for key, value in self.get_tables(name).items() if key != OF_A_MACHINE.get(name)}
            for name in self.table.keys() - kinds - {"console"}
        }
        tables |= {f"{kind}.{name}": table for kind in kinds for name, table in self.get_tables(kind).items()}
        texts = {name: json.dumps(table, sort_keys=True, default=str) for name, table in tables.items() if table}
        return {name: blake2b(text.encode(), digest_size=8).hexdigest() for name, text in texts.items()}

    def add(self, document: Document) -> list[Mistake]:
        """Merge one more file. A key that another file has set is a mistake, unless this file overrides that one."""
        mistakes: list[Mistake] = []
        self._merge(self.table, document.table, document, (), mistakes)
        return mistakes

    def _merge(
        self, into: dict[str, Any], table: Mapping[str, Any], document: Document, path: KeyPath, found: list[Mistake]
    ) -> None:
        for key, value in table.items():
            here = (*path, key)
            origin = self.origins.setdefault(here, document)
            if _is_table(value) and _is_table(into.setdefault(key, {})):
                self._merge(into[key], value, document, here, found)
            elif origin.base == document.base:
                into[key], self.origins[here] = value, document
            else:
                reason = (
                    f"is set already at {origin.name}:{origin.find_line(here)}; keep one of them, "
                    f"or move this one to {origin.base}.d/ to override it"
                )
                found.append(document.make_mistake(here, reason, None, private=True))

    def find_origin(self, path: KeyPath) -> tuple[str, int | None] | None:
        """Return the file and the line with the value of this key; None without any."""
        document = self.origins.get(path)
        return (document.name, document.find_line(path)) if document else None

    def find_place(self, path: KeyPath) -> str | None:
        """Return the place of the value of this key, as "60-heap.toml:4"; None without any."""
        for length in range(len(path), 1, -1):
            if document := self.origins.get(path[:length]):
                return f"{document.name}:{document.find_line(path)}"
        return None

    def make_mistake(
        self, path: Sequence[str | int], reason: str, suggestion: str | None = None, *, private: bool = False
    ) -> Mistake:
        """Make a mistake about this key, with the place of its value."""
        for length in range(len(path), 0, -1):
            if origin := self.origins.get(tuple(path[:length])):
                return origin.make_mistake(path, reason, suggestion, private=private)
        return Mistake(reason=reason, suggestion=suggestion)


def is_off(table: object) -> bool:
    """Return whether `enabled = false` disables a table."""
    return isinstance(table, dict) and table.get("enabled") is False


def is_reference(value: object) -> bool:
    """Return whether a value is written like a reference to a secret."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((how, name),) = value.items()
    return how in SECRET_KEYS and isinstance(name, str) and name != ""


def list_leaves(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, object]]:
    """Yield all values in a table or in settings. A reference to a secret is one value."""
    if isinstance(value, BaseModel):
        value = vars(value)
    inner: list[tuple[Any, object]] = []
    if isinstance(value, Mapping) and not is_reference(value):
        with suppress(Exception), contained():  # a plugin's own mapping may raise
            inner = list(value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(enumerate(value))
    else:
        yield path, value
        return
    for key, item in inner:
        yield from list_leaves((*path, key), item)


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value merges key by key. A reference to a secret is replaced as a whole."""
    return isinstance(value, dict) and not is_reference(value)
