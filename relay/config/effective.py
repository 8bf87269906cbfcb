"""The effective configuration: the value of every setting as an admin would write it, and its place."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from msgspec import Struct
from pydantic_core import to_jsonable_python

from relay.api import Settings
from relay.config.excerpt import show_value
from relay.config.line_numbers import KeyPath
from relay.config.merge import Merged, is_reference
from relay.config.mistake import format_path
from relay.guests import contained, read_text


class Effective(Struct, frozen=True):
    """A setting. `value` is plain data as in TOML, a secret its reference, None not set. `file` is "" for a default."""

    table: KeyPath
    """Its table, such as ("connector", "heap")."""
    path: KeyPath
    value: Any
    file: str
    line: int | None
    disabled: bool
    """Whether its table is switched off."""

    @property
    def origin(self) -> str:
        """The place of the value: "60-heap.toml:4", or "default"."""
        return f"{self.file}:{self.line}" if self.file else "default"

    @property
    def plain(self) -> dict[str, Any]:
        """The setting as plain JSON."""
        origin = {"origin": self.origin, "file": self.file, "line": self.line}
        return {"key": format_path(self.path), "value": self.value, **origin, "disabled": self.disabled}


def list_effective(
    tables: Mapping[KeyPath, Settings], merged: Merged, disabled: Collection[str]
) -> Iterator[Effective]:
    """Yield all settings of all tables, including disabled ones such as "connector.heap"."""
    for table, settings in tables.items():
        # Settings as plain data, each by itself: a plugin may have one that cannot be written
        plain: dict[str, Any] = {}
        for name, field in type(settings).model_fields.items():
            try:
                with contained(until_ctrl_c=True):
                    plain |= to_jsonable_python(settings, include={name}, by_alias=True, fallback=read_text)
            except Exception as error:
                plain[field.alias or name] = f"cannot be shown: {type(error).__name__}"
        is_off = format_path(table) in disabled
        for path, value in _flatten(table, plain):
            file, line = merged.find_origin(path) or ("", None)
            yield Effective(table, path, _shown(path, value), file, line, is_off)


def _flatten(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the values of nested tables with their paths. An empty table is a value itself."""
    if isinstance(value, dict) and value and not is_reference(value):
        for key, item in value.items():
            yield from _flatten((*path, key), item)
    else:
        yield path, value


def _shown(path: KeyPath, value: Any) -> Any:
    if isinstance(value, list):
        return [_shown((*path, number), item) for number, item in enumerate(value)]
    if isinstance(value, dict):  # a table in a list, which TOML writes in a line: what is not set stays out
        return {key: _shown((*path, key), item) for key, item in value.items() if item not in (None, [])}
    return show_value(path, value) if isinstance(value, str) else value
