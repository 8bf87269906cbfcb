"""What a configuration comes to: the value of every setting as an admin would write it, and where it is said."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from relay.config.excerpt import shown
from relay.config.line_numbers import KeyPath
from relay.config.load import Loaded
from relay.config.merge import is_reference
from relay.guests import contained, text_of


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting. `value` is plain data as in TOML, a secret its reference, None not set; `file` is "" for a default."""

    path: KeyPath
    value: Any
    file: str
    line: int | None

    @property
    def origin(self) -> str:
        """Where the value comes from: "60-heap.toml:4", or "default"."""
        return f"{self.file}:{self.line}" if self.file else "default"


def effective(loaded: Loaded) -> Iterator[Effective]:
    """All settings of all tables, those that are switched off too."""
    for table, settings in loaded.tables.items():
        # Settings as plain data, each by itself: a plugin may have one that cannot be written
        plain: dict[str, Any] = {}
        for name, field in type(settings).model_fields.items():
            try:
                with contained(until_ctrl_c=True):
                    plain |= to_jsonable_python(settings, include={name}, by_alias=True, fallback=text_of)
            except Exception as error:
                plain[field.alias or name] = f"cannot be shown: {type(error).__name__}"
        for path, value in _flat(table, plain):
            file, line = loaded.merged.origin(path) or ("", None)
            yield Effective(path, _shown(path, value), file, line)


def _flat(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    """The values of tables within tables, each with its path; an empty one is a value itself."""
    if isinstance(value, dict) and value and not is_reference(value):
        for key, item in value.items():
            yield from _flat((*path, key), item)
    else:
        yield path, value


def _shown(path: KeyPath, value: Any) -> Any:
    if isinstance(value, list):
        return [_shown((*path, number), item) for number, item in enumerate(value)]
    return shown(path, value) if isinstance(value, str) else value
