"""Lists the plugins, and the types that a configuration can name, each with the schema of its settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.api.internal import describe_missing
from relay.config import BROKEN, KINDS, PluginInfo, Registry, describe_settings, type_description
from relay.proposal.values import AvailablePlugin, AvailableType, AvailableTypes


def list_available(folders: Sequence[Path], known: Mapping[str, str]) -> AvailableTypes:
    """List what is installed and dropped in now.

    `folders`: those of drop-in plugins. `known`: `Registry.fingerprints` of the relay that runs.
    """
    registry = Registry.discover(folders)
    plugins = [_describe_plugin(info, registry, known) for info in registry.list_plugins()]
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
        info.name, info.origin, info.version, info.provides, info.error,
        registry.describe_notes(info), loaded, stale=loaded and before != registry.fingerprints[info.key],
    )  # fmt: skip


def _describe_type(kind: str, name: str, registry: Registry, owner: AvailablePlugin) -> AvailableType:
    plugin = registry.get_types(kind)[name]
    schema, problem = describe_settings(kind, name, plugin)
    accepted, emitted = (getattr(plugin, named, ()) for named in ("accepted_types", "emitted_types"))
    return AvailableType(
        kind, name, owner.name, owner.loaded, type_description(plugin), accepted, emitted, schema, problem,
        describe_missing(plugin.requires),
    )  # fmt: skip
