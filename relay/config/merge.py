"""Puts the tables of all files together, and remembers which file each key came from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from pydantic import BaseModel

from relay.config.files import Document
from relay.config.line_numbers import KeyPath
from relay.config.mistake import Mistake
from relay.guests import contained

SECRET_KEYS: Final = ("credential", "file", "env")


@dataclass(frozen=True, slots=True)
class Merged:
    """The tables of all files as one."""

    table: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Document] = field(default_factory=dict)
    """For each key the file that says its value, for each table the one that opens it first."""

    def named(self, kind: str) -> dict[str, Any]:
        """What stands under `kind` by its name; nothing if that is no table."""
        tables = self.table.get(kind)
        return tables if isinstance(tables, dict) else {}

    def tables(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """The named tables of a kind; what is none, such as a number, is left out."""
        return [(name, table) for name, table in self.named(kind).items() if isinstance(table, dict)]

    def add(self, document: Document) -> list[Mistake]:
        """Merge one more file. A key that another file sets too is a mistake, unless this file overrides that one."""
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
                    f"is set already at {origin.name}:{origin.line(here)}; keep one of them, "
                    f"or move this one to {origin.base}.d/ to override it"
                )
                found.append(document.mistake(here, reason, None, private=True))

    def origin(self, path: KeyPath) -> tuple[str, int | None] | None:
        """The file and the line that say the value of this key; None if no file does."""
        document = self.origins.get(path)
        return (document.name, document.line(path)) if document else None

    def place(self, path: KeyPath) -> str | None:
        """Where the value of this key is written, as "60-heap.toml:4"; None if no file says it."""
        for length in range(len(path), 1, -1):
            if document := self.origins.get(path[:length]):
                return f"{document.name}:{document.line(path)}"
        return None

    def mistake(
        self, path: Sequence[str | int], reason: str, suggestion: str | None = None, *, private: bool = False
    ) -> Mistake:
        """Make a mistake of something about this key, located in the file that says it."""
        for length in range(len(path), 0, -1):
            if origin := self.origins.get(tuple(path[:length])):
                return origin.mistake(path, reason, suggestion, private=private)
        return Mistake(reason=reason, suggestion=suggestion)


def is_off(table: object) -> bool:
    """Tell whether `enabled = false` switches a table off."""
    return isinstance(table, dict) and table.get("enabled") is False


def is_reference(value: object) -> bool:
    """Tell whether a value is written like a reference to a secret."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((how, name),) = value.items()
    return how in SECRET_KEYS and isinstance(name, str) and name != ""


def leaves(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, object]]:
    """All values in a table or in settings, a reference to a secret being one value."""
    if isinstance(value, BaseModel):
        value = vars(value)
    inner: list[tuple[Any, object]]
    if isinstance(value, Mapping) and not is_reference(value):
        inner = _items(value)
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(enumerate(value))
    else:
        yield path, value
        return
    for key, item in inner:
        yield from leaves((*path, key), item)


def _items(value: Mapping[Any, object]) -> list[tuple[Any, object]]:
    """What is in a mapping; of a plugin's own that cannot say, nothing."""
    with suppress(Exception), contained():
        return list(value.items())
    return []


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether a value merges key by key. A reference to a secret is one value, replaced as a whole."""
    return isinstance(value, dict) and not is_reference(value)
