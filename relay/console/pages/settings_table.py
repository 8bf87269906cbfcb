"""The settings of a source or connector as they are in force, with file and line, for a page."""

from dataclasses import dataclass
from typing import Any

import msgspec

from relay.config import format_path
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting. `value`: as in TOML or JSON; "": not set."""

    name: str
    value: str
    origin: str
    is_default: bool


async def read_settings(visit: Visit, *path: str) -> tuple[list[ShownSetting], str]:
    """Return the settings of a table, those of files first, and why they cannot be shown; "" if they can."""
    try:
        answer = await visit.ask("GET", "/config")
    except ConsoleRefusal as refusal:
        return [], refusal.reason
    begin = f"{format_path(path)}."
    found = [_show(one, begin) for one in answer["settings"] if one["key"].startswith(begin)]
    return sorted(found, key=lambda one: one.is_default), ""


def _show(one: dict[str, Any], begin: str) -> ShownSetting:
    value = "" if one["value"] is None else msgspec.json.encode(one["value"]).decode()
    return ShownSetting(one["key"].removeprefix(begin), value, one["origin"], is_default=not one["file"])
