"""What plugins provide: connector, source and filter types, and commands. One broken plugin stops nothing."""

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import click
import pluggy

from relay.api import Connector, ConnectorSettings, Filter, FilterSettings, Plugin, Settings, Source, SourceSettings
from relay.api import hooks as hookspecs
from relay.config.discovery import PLUGIN_FOLDERS, Candidate, Stamp, candidates, place_of, stamp
from relay.guests import ODD, named

KINDS: Final[Mapping[str, tuple[type[Plugin], type[Settings]]]] = {
    "source": (Source, SourceSettings),
    "connector": (Connector, ConnectorSettings),
    "filter": (Filter, FilterSettings),
}
"""The kinds of plugin classes, each with its base and the base of its settings."""

Thing = type[Plugin] | click.Command


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin that was found. `provides` lists things like "connector heap"; `error` says why it cannot be used;
    `notes` what its author or an admin may not expect."""

    name: str
    origin: str
    version: str
    provides: tuple[str, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The first line of `error`."""
        return self.error.partition("\n")[0] if self.error else ""


class Registry:
    """All plugins of a process."""

    def __init__(self) -> None:
        self.plugins: list[PluginInfo] = []
        self._provided: dict[tuple[str, str], tuple[Thing, Candidate]] = {}
        self._stamps: dict[Path, tuple[str, Stamp]] = {}
        """Where each plugin is, its name, and its files as they were loaded."""
        self._notes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        """By name and origin of a plugin."""

    @classmethod
    def discover(cls, folders: Sequence[Path] = PLUGIN_FOLDERS) -> "Registry":
        """Load the plugins in drop-in folders and the installed ones (entry points of the group `relay`).

        A drop-in may replace a type of an installed plugin. What cannot be loaded is in `plugins` with its error.
        """
        registry = cls()
        for candidate in candidates(folders):
            registry.plugins.append(registry._add(candidate))
        for number, info in enumerate(registry.plugins):
            registry.plugins[number] = replace(info, notes=tuple(registry._notes[info.name, info.origin]))
        return registry

    @property
    def stale(self) -> list[str]:
        """The plugins whose files are others now than when they were loaded, with where they are. Reads files."""
        return [f"{name} ({path})" for path, (name, known) in self._stamps.items() if stamp(path) != known]

    def types(self, kind: str) -> dict[str, type[Plugin]]:
        """All classes of a kind (`source`, `connector`, `filter`) by their type name."""
        return {name: cast("type[Plugin]", thing) for (of, name), (thing, _) in self._provided.items() if of == kind}

    def connector(self, name: str) -> type[Connector] | None:
        """The connector class of this type, if there is one."""
        return cast("type[Connector] | None", self.types("connector").get(name))

    def source(self, name: str) -> type[Source] | None:
        """The source class of this type, if there is one."""
        return cast("type[Source] | None", self.types("source").get(name))

    def filter(self, name: str) -> type[Filter] | None:
        """The filter class of this type, if there is one."""
        return cast("type[Filter] | None", self.types("filter").get(name))

    @property
    def made(self) -> list[str]:
        """The event types that sources make themselves."""
        return [made for source in self.types("source").values() for made in getattr(source, "makes", ())]

    @property
    def commands(self) -> list[click.Command]:
        """The commands that plugins add to `relay`."""
        return [cast("click.Command", thing) for (kind, _), (thing, _) in self._provided.items() if kind == "command"]

    def suspects(self, type: object) -> list[PluginInfo]:
        """The broken plugins that might provide this type: the one of that name, else all."""
        broken = [info for info in self.plugins if info.error]
        return [info for info in broken if info.name == type] or broken

    def _add(self, candidate: Candidate) -> PluginInfo:
        name, origin, version = candidate.name, candidate.origin, candidate.version
        if candidate.is_drop_in:  # what cannot be loaded may be mended
            self._stamps[Path(origin)] = name, stamp(Path(origin))
        try:
            module = candidate.load()
            if not candidate.is_drop_in and (place := place_of(module)):
                self._stamps[place] = name, stamp(place)
            things = {_key(thing): thing for thing in _things(module)}
            provided = self._claim(things, candidate)
        except ODD as error:  # whatever a plugin does while it is imported
            return PluginInfo(name, origin, version, error=named(error).strip())
        version = version or str(getattr(module, "__version__", ""))
        for note in () if things else _nameless(module):
            self._note(candidate, note)
        return PluginInfo(name, origin, version, tuple(f"{kind} {name}" for kind, name in provided))

    def _claim(self, things: Mapping[tuple[str, str], Thing], candidate: Candidate) -> list[tuple[str, str]]:
        """Take over all that a plugin provides, or nothing. Raises ValueError if another provides it already."""
        owners = {key: self._provided[key][1] for key in things if key in self._provided}
        for (kind, name), owner in owners.items():
            if owner.is_drop_in == candidate.is_drop_in:
                raise ValueError(f"{kind} {name} is already provided by plugin {owner.name} ({owner.origin})")
        for (kind, name), owner in owners.items():
            self._note(owner, f"replaces {kind} {name} of {candidate.origin}")
            self._note(candidate, f"{kind} {name} is replaced by {owner.origin}")
        fresh = [key for key in things if key not in owners]
        self._provided |= {key: (things[key], candidate) for key in fresh}
        return fresh

    def _note(self, plugin: Candidate, note: str) -> None:
        self._notes[plugin.name, plugin.origin].append(note)


def _things(module: ModuleType) -> Iterator[Thing]:
    """Ask a module's hooks what it provides, else look for its classes.

    Each plugin has a pluggy manager of its own: what one gets wrong touches no other, and every answer has an owner.
    """
    manager = pluggy.PluginManager("relay")
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    hooks = manager.get_hookcallers(module) or []
    for hook in hooks:
        if any(inspect.iscoroutinefunction(implementation.function) for implementation in hook.get_hookimpls()):
            raise TypeError(f"{hook.name} must be a plain function, not async")
        for answer in hook():
            yield from answer
    if not any(hook.name == "relay_types" for hook in hooks):
        yield from filter(_is_named, _own_classes(module))


def _own_classes(module: ModuleType) -> Iterator[type[Plugin]]:
    """The plugin classes that the module, or a module of its package, defines, with a type name or without."""
    for thing in vars(module).values():
        is_plugin = isinstance(thing, type) and issubclass(thing, Plugin)
        if is_plugin and f"{thing.__module__}.".startswith(f"{module.__name__}."):
            yield thing


def _is_named(plugin: type[Plugin]) -> bool:
    return bool(vars(plugin).get("type"))


def _nameless(module: ModuleType) -> Iterator[str]:
    """What to do about the classes of a module that provides nothing."""
    for plugin in _own_classes(module):
        name, base = plugin.__name__, plugin.__bases__[0].__name__
        yield f'class {name} has no type: write class {name}({base}, type="{name.lower()}")'


def _key(thing: Any) -> tuple[str, str]:
    """The kind and the name of what a plugin provides. Raises TypeError if it is nothing that a plugin can provide."""
    if isinstance(thing, click.Command) and thing.name:
        return "command", thing.name
    for kind, (base, settings) in KINDS.items():
        if isinstance(thing, type) and issubclass(thing, base) and thing.type:
            if not issubclass(thing.Settings, settings):
                raise TypeError(f"{thing.__name__}.Settings must be a subclass of {settings.__name__}")
            return kind, thing.type
    raise TypeError(f"{thing!r} is no connector, source or filter class with a type name, and no command")
