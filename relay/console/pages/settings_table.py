"""The settings in force, with file and line, for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.config import format_path
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting. `plain`: its value as in JSON; None: not set."""

    name: str
    plain: Any
    origin: str
    is_default: bool

    @property
    def value(self) -> str:
        """The value as in TOML or JSON; "": not set."""
        return "" if self.plain is None else msgspec.json.encode(self.plain).decode()


async def read_settings(visit: Visit) -> tuple[list[ShownSetting], str]:
    """Return all settings, those of files first, and why they cannot be shown; "" if they can."""
    try:
        answer = await visit.ask("GET", "/config")
    except ConsoleRefusal as refusal:
        return [], refusal.reason
    found = [ShownSetting(one["key"], one["value"], one["origin"], not one["file"]) for one in answer["settings"]]
    return sorted(found, key=lambda one: one.is_default), ""


def pick_table(settings: Sequence[ShownSetting], *path: str) -> list[ShownSetting]:
    """Return the settings of a table, by their names within it."""
    begin = f"{format_path(path)}."
    return [
        ShownSetting(one.name.removeprefix(begin), one.plain, one.origin, one.is_default)
        for one in settings
        if one.name.startswith(begin)
    ]
