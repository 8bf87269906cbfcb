"""Lists the plugins, and the types that a configuration can name, each with the schema of its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.config import BROKEN, KINDS, PluginInfo, Registry, make_type_schema, type_description
from relay.guests import contained, name_error


@dataclass(frozen=True, slots=True)
class AvailablePlugin:
    """A plugin that is installed or dropped in."""

    name: str
    origin: str
    """The file or folder of a drop-in plugin; else the name of the package."""
    version: str
    provides: Sequence[str]
    """Such as "connector heap"."""
    error: str | None
    """Why the plugin cannot be used; null if it can."""
    notes: Sequence[str]
    """Surprises for the author of the plugin, or for an admin."""
    loaded: bool
    """Whether relay runs with the plugin. A plugin that came after the start takes a restart."""
    stale: bool
    """Whether the files of the plugin have changed since relay loaded them. The new code takes a restart."""


@dataclass(frozen=True, slots=True)
class AvailableType:
    """A type that a table of conf.d can name."""

    kind: str
    """source, connector, filter or alert."""
    type: str
    plugin: str
    """The name of the plugin."""
    loaded: bool
    """Whether relay runs with the plugin."""
    doc: str
    """The docstring of the type."""
    accepted_types: Sequence[str]
    """The event types that a connector can use; empty: all."""
    emitted_types: Sequence[str]
    """The event types that a source or filter makes itself."""
    schema: Mapping[str, Any] | None
    """A JSON Schema of the table, with the description, the default and the choices of each setting.

    A setting with units lists them in `x-units`; `x-secret` marks a reference to a secret. null: `problem` says why
    there is none."""
    problem: str


@dataclass(frozen=True, slots=True)
class AvailableTypes:
    """The plugins and their types."""

    plugins: Sequence[AvailablePlugin]
    types: Sequence[AvailableType]


def list_available(folders: Sequence[Path], known: Mapping[str, str]) -> AvailableTypes:
    """List what is installed and dropped in now.

    `folders`: those of drop-in plugins. `known`: `Registry.fingerprints` of the relay that runs.
    """
    registry = Registry.discover(folders)
    plugins = [_describe_plugin(info, registry, known) for info in registry.plugins]
    owners = {provided: one for one in reversed(plugins) for provided in one.provides}
    types = [
        _describe_type(kind, name, registry, owners[f"{kind} {name}"])
        for kind in KINDS
        for name in sorted(registry.get_types(kind))
    ]
    return AvailableTypes(plugins, types)


def _describe_plugin(info: PluginInfo, registry: Registry, known: Mapping[str, str]) -> AvailablePlugin:
    before = known.get(info.key, BROKEN)
    loaded = before != BROKEN
    return AvailablePlugin(
        info.name, info.origin, info.version, info.provides, info.error, info.notes,
        loaded, stale=loaded and before != registry.fingerprints[info.key],
    )  # fmt: skip


def _describe_type(kind: str, name: str, registry: Registry, owner: AvailablePlugin) -> AvailableType:
    plugin, schema, problem = registry.get_types(kind)[name], None, ""
    try:
        with contained():
            schema = make_type_schema(kind, name, plugin)
    except Exception as error:
        problem = f"the settings cannot be described: {name_error(error)}"
    accepted, emitted = (getattr(plugin, named, ()) for named in ("accepted_types", "emitted_types"))
    return AvailableType(
        kind, name, owner.name, owner.loaded, type_description(plugin), accepted, emitted, schema, problem
    )
