"""The registry of plugins: connector, source, filter and alert types, and commands. One broken plugin stops nothing.

Of several that provide the same, the first one counts (`find_candidates` gives the order). The others are left out, and
users of the type are warned. relay's own commands count before all.
"""

import inspect
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from threading import current_thread, main_thread
from types import ModuleType
from typing import Any, Final, cast

import click
import pluggy
from msgspec import Struct
from msgspec.structs import replace

from relay.api import (
    Alert,
    AlertSettings,
    Connector,
    ConnectorSettings,
    Filter,
    FilterSettings,
    Plugin,
    Settings,
    Source,
    SourceSettings,
)
from relay.api import hooks as hookspecs
from relay.api.internal import describe_missing
from relay.commands import ALIASES, COMMANDS
from relay.config.plugins.contract import check_class
from relay.config.plugins.discovery import (
    Candidate,
    Stamp,
    digest_stamp,
    find_candidates,
    find_place,
    read_stamp,
)
from relay.config.plugins.probe import Probed, probe
from relay.guests import contained, name_error
from relay.plugin_places import PLUGIN_FOLDERS

KINDS: Final[Mapping[str, tuple[type[Plugin], type[Settings]]]] = {
    "source": (Source, SourceSettings),
    "connector": (Connector, ConnectorSettings),
    "filter": (Filter, FilterSettings),
    "alert": (Alert, AlertSettings),
}
"""The kinds of plugin classes, each with its base and the base of its settings."""

LOAD_S: Final = 30.0
"""Seconds that a plugin may take to load."""
BROKEN: Final = "broken"
"""In place of the fingerprint of a plugin that could not be loaded."""
Thing = type[Plugin] | click.Command


def make_key(name: str, origin: Path | str | None) -> str:
    """Name a plugin with its place: plugins of several places may have one name."""
    return f"{name} ({origin})"


class PluginInfo(Struct, frozen=True):
    """A plugin that was found. `provides` lists things like "connector heap". `error`: why it cannot be used. `notes`:
    surprises for its author or an admin."""

    name: str
    origin: str
    version: str
    provides: tuple[str, ...] = ()
    error: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name and origin."""
        return make_key(self.name, self.origin)

    @property
    def reason(self) -> str:
        """The first line of `error`."""
        return self.error.partition("\n")[0] if self.error else ""


class Registry:
    """All plugins of a process."""

    def __init__(self) -> None:
        self.plugins: list[PluginInfo] = []
        self._provided: dict[tuple[str, str], tuple[Thing, str]] = {}
        """What counts by kind and name, and its origin."""
        self._code: dict[tuple[str, str], str] = {}
        """The plugin of each module, named as in `stale`."""
        self._left_out: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        """Origins of the same that do not count."""
        self._stamps: dict[Path, tuple[str, Stamp]] = {}
        """Each plugin's place, name, and stamp when it was loaded."""
        self._notes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        """Notes by name and origin of a plugin."""
        self.folders: Sequence[Path] = ()
        """The folders of drop-in plugins."""
        self.fingerprints: dict[str, str] = {}
        """A digest of the files of each plugin, by `PluginInfo.key`; BROKEN if the plugin could not be loaded."""
        self._newer: list[str] = []
        """Plugins with other files than `known`, named as in `stale`."""
        self._probed: tuple[object, Probed] = (), Probed()
        """The changed files that were last probed, and the result."""

    @classmethod
    def discover(cls, folders: Sequence[Path] = PLUGIN_FOLDERS, known: Mapping[str, str] | None = None) -> "Registry":
        """Load the plugins in drop-in folders and the installed ones (entry points of the group `relay`).

        What cannot be loaded is in `plugins` with its error. What plugins print meanwhile goes to standard error.
        `known`: the fingerprints of another process. Plugins that came after its start are left out, and `stale` has
        the plugins whose files have changed since.
        """
        registry = cls()
        registry.folders = folders
        with redirect_stdout(sys.stderr):
            for candidate in find_candidates(folders):
                if known is None or make_key(candidate.name, candidate.origin) in known:
                    registry.plugins.append(registry._add(candidate, known))
        for number, info in enumerate(registry.plugins):
            registry.plugins[number] = replace(info, notes=tuple(registry._notes[info.name, info.origin]))
        return registry

    def provide(self, types: Iterable[type[Plugin]]) -> None:
        """Add classes that no plugin on disk has, such as those of a test. Raises TypeError, ValueError."""
        self._provided |= {key: (thing, "the test") for key, thing in _sort_by_key(iter(types)).items()}

    @property
    def stale(self) -> list[str]:
        """Plugins whose files have changed since they were loaded, with their places. Reads files."""
        return [*self._newer, *(make_key(name, path) for path, (name, _) in self._find_changed().items())]

    @property
    def unloaded(self) -> list[str]:
        """The plugins that came after this registry was made, with where they are. Reads folders and metadata."""
        known = {info.key for info in self.plugins}
        found = find_candidates(self.folders)
        return [key for key in (make_key(one.name, one.origin) for one in found) if key not in known]

    def _find_changed(self) -> dict[Path, tuple[str, Stamp]]:
        """Return the changed plugins by place: their names, and their present stamps."""
        now = {path: (name, read_stamp(path)) for path, (name, _) in self._stamps.items()}
        return {path: one for path, one in now.items() if one != self._stamps[path]}

    def find_faults(self) -> dict[str, str]:
        """Return why plugins of `stale` cannot be loaded now. Reads files, and starts a process once per change."""
        changed = self._find_changed()
        if changed and self._probed[0] != changed:
            self._probed = changed, probe(self.folders)
        found = {path: self._probed[1].find_fault(name, path) for path, (name, _) in changed.items()}
        return {make_key(changed[path][0], path): fault for path, fault in found.items() if fault is not None}

    def is_of(self, plugin: str, kind: str, type: object) -> bool:
        """Return whether a type belongs to a plugin, named as in `stale`."""
        return self._code.get((kind, str(type))) == plugin

    def get_types(self, kind: str) -> dict[str, type[Plugin]]:
        """Return all classes of a kind (`source`, `connector`, `filter`, `alert`) by type name."""
        return {name: cast("type[Plugin]", thing) for (of, name), (thing, _) in self._provided.items() if of == kind}

    def get_connector(self, name: str) -> type[Connector] | None:
        """Return the connector class of this type; None without any."""
        return cast("type[Connector] | None", self.get_types("connector").get(name))

    def get_source(self, name: str) -> type[Source] | None:
        """Return the source class of this type; None without any."""
        return cast("type[Source] | None", self.get_types("source").get(name))

    def get_filter(self, name: str) -> type[Filter] | None:
        """Return the filter class of this type; None without any."""
        return cast("type[Filter] | None", self.get_types("filter").get(name))

    @property
    def made(self) -> list[str]:
        """Event types that sources make themselves."""
        return [made for source in self.get_types("source").values() for made in getattr(source, "emitted_types", ())]

    @property
    def commands(self) -> list[click.Command]:
        """Commands that plugins add to `relay`."""
        return [cast("click.Command", thing) for (kind, _), (thing, _) in self._provided.items() if kind == "command"]

    def find_suspects(self, type: object) -> list[PluginInfo]:
        """Return the broken plugins that might provide this type: the one of that name, else all."""
        broken = [info for info in self.plugins if info.error]
        return [info for info in broken if info.name == type] or broken

    def describe_notes(self, info: PluginInfo) -> list[str]:
        """Return the notes of a plugin, and which libraries its types lack. Looks for the libraries."""
        classes = {f"{kind} {name}": thing for (kind, name), (thing, _) in self._provided.items()}
        lacking = [(one, describe_missing(getattr(classes[one], "requires", {}))) for one in info.provides]
        return [*info.notes, *(f"{one} {missing}" for one, missing in lacking if missing)]

    def find_provider(self, kind: str, name: object) -> str:
        """Return the plugin whose type or command of this name counts, and its place."""
        return next((place for key, (_, place) in self._provided.items() if key == (kind, name)), "relay itself")

    @property
    def rivalries(self) -> Mapping[tuple[str, str], str]:
        """What several plugins provide, by kind and name, in a sentence."""
        return {
            key: f"of {self.find_provider(*key)} counts, that of {' and of '.join(others)} is left out"
            for key, others in self._left_out.items()
        }

    def _add(self, candidate: Candidate, known: Mapping[str, str] | None) -> PluginInfo:
        name, origin, version = candidate.name, candidate.origin, candidate.version
        place = Path(origin) if candidate.is_drop_in else None
        if place:  # what cannot be loaded may be mended
            self._stamps[place] = name, read_stamp(place)
        try:
            with contained(until_ctrl_c=True), _limit_time(LOAD_S):  # whatever a plugin does while it is imported
                module = candidate.load()
                if place is None and (place := find_place(module)):
                    self._stamps[place] = name, read_stamp(place)
                things = _sort_by_key(_list_things(module))
                version = version or str(getattr(module, "__version__", ""))
                classes = () if things else _find_own_classes(module)
                untyped = [(one.__name__, one.__bases__[0].__name__) for one in classes]
        except Exception as error:
            broken = PluginInfo(name, origin, version, error=name_error(error).strip())
            self.fingerprints[broken.key] = BROKEN
            return broken
        for one, base in untyped:
            self._note(candidate, f'class {one} has no type: write class {one}({base}, type="{one.lower()}")')
        where = origin if candidate.is_drop_in else f"{origin}, {place}"
        provided = self._claim(things, candidate, f"plugin {name} ({where})")
        self._code |= dict.fromkeys(provided, make_key(name, place))
        info = PluginInfo(name, origin, version, tuple(f"{kind} {name}" for kind, name in provided))
        self.fingerprints[info.key] = digest = digest_stamp(self._stamps[place][1]) if place else ""
        if known is not None and known[info.key] != digest:
            self._newer.append(make_key(name, place))
        return info

    def _claim(
        self, things: Mapping[tuple[str, str], Thing], candidate: Candidate, where: str
    ) -> list[tuple[str, str]]:
        """Take over what a plugin provides, except what another one provides already."""
        provided = []
        for key, thing in things.items():
            kind, name = key
            known = self._provided.get(key)
            if kind == "command" and name in (*COMMANDS, *ALIASES):
                owner = "relay itself"
            elif known is None or known[0] is thing:  # a package may name a class in two places
                self._provided.setdefault(key, (thing, where))
                provided.append(key)
                continue
            else:
                owner = known[1]
            self._left_out[key].append(where)
            self._note(candidate, f"its {kind} {name} is left out: that of {owner} counts")
        return provided

    def _note(self, plugin: Candidate, note: str) -> None:
        self._notes[plugin.name, plugin.origin].append(note)


@contextmanager
def _limit_time(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block, again and again, once it takes longer. Works in the main thread only."""
    if current_thread() is not main_thread():
        yield
        return

    def raise_late(*_: object) -> None:
        raise TimeoutError(f"it was not loaded within {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, raise_late)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _list_things(module: ModuleType) -> Iterator[Thing]:
    """Ask a module's hooks what it provides, or find its classes.

    Each plugin has a pluggy manager of its own: its faults touch no other, and every answer has an owner.
    """
    hooks = []
    if any(inspect.isroutine(one) and hasattr(one, "relay_impl") for one in vars(module).values()):  # few have hooks
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
        yield from (plugin for plugin in _find_own_classes(module) if vars(plugin).get("type"))


def _find_own_classes(module: ModuleType) -> Iterator[type[Plugin]]:
    """Yield the plugin classes that the module or its submodules define, with a type name or without."""
    for thing in vars(module).values():
        is_plugin = isinstance(thing, type) and issubclass(thing, Plugin)
        if is_plugin and f"{thing.__module__}.".startswith(f"{module.__name__}."):
            yield thing


def _sort_by_key(things: Iterator[Any]) -> dict[tuple[str, str], Thing]:
    """Return what a plugin provides by kind and name.

    Raises TypeError if no plugin can provide a thing, ValueError if two things have one name.
    """
    found: dict[tuple[str, str], Thing] = {}
    for thing in things:
        kinds = [kind for kind, (base, _) in KINDS.items() if isinstance(thing, type) and issubclass(thing, base)]
        if isinstance(thing, click.Command) and thing.name:
            thing.get_short_help_str()  # which `relay --help` asks every command for
            key = "command", thing.name
        elif kinds and thing.type:
            check_class(thing, *KINDS[kinds[0]])
            key = kinds[0], thing.type
        else:
            what = "no connector, source, filter or alert class with a type name, and no command"
            raise TypeError(f"{thing!r} is {what}")
        if found.setdefault(key, thing) is not thing:
            raise ValueError(f"it provides {' '.join(key)} twice: give one of them another name")
    return found
