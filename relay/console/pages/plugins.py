"""Plugins: what is installed or dropped in, and the types of conf.d with their docstrings and settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.console.visit import Visit

LOADING_S: Final = 100.0
"""Seconds that relay may take to load all plugins anew."""
DEEPEST: Final = 4
"""Tables within tables whose settings are shown."""


@dataclass(frozen=True, slots=True)
class DescribedSetting:
    """A setting of a type. `values`: what it takes; `default` as in JSON, "": none."""

    name: str
    values: str
    default: str
    text: str


async def show(visit: Visit) -> web.StreamResponse:
    """Show the plugins and their types."""
    found = await visit.ask("GET", "/types", timeout=LOADING_S)
    types = [(one, list_settings(one["schema"] or {})) for one in found["types"]]
    return visit.show("plugins.html", plugins=found["plugins"], types=types)


def list_settings(schema: Mapping[str, Any]) -> list[DescribedSetting]:
    """List the settings of a schema, those of its tables behind them."""
    return [*_walk(schema, schema.get("$defs", {}), ())]


def _walk(part: Mapping[str, Any], named: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[DescribedSetting]:
    for name, one in part.get("properties", {}).items():
        if not isinstance(one, dict):
            continue
        inner = {**named.get(str(one.get("$ref", "")).removeprefix("#/$defs/"), {}), **one}
        text = inner.get("description", "")
        has_default = "default" in inner and "properties" not in inner
        default = msgspec.json.encode(inner["default"]).decode() if has_default else ""
        needed = "" if name not in part.get("required", ()) else "required"
        yield DescribedSetting(".".join((*path, name)), _describe_values(inner), default or needed, text)
        if len(path) < DEEPEST and "x-secret" not in inner:
            yield from _walk(inner, named, (*path, name))


def _describe_values(inner: Mapping[str, Any]) -> str:
    if "x-secret" in inner:
        return "a reference to a secret: credential, file or env"
    if "const" in inner or "enum" in inner:
        return " or ".join(msgspec.json.encode(one).decode() for one in inner.get("enum", [inner.get("const")]))
    if units := inner.get("x-units"):
        return f"a number with a unit: {', '.join(units)}"
    kinds = [inner.get("type"), *(one.get("type") for one in inner.get("anyOf", ()) if isinstance(one, dict))]
    return " or ".join(dict.fromkeys(str(kind) for kind in kinds if kind))
