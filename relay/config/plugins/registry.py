"""The registry of plugins: connector, source, filter and alert types, and commands. One broken plugin stops nothing.

Of several that provide the same, the first one counts (`find_candidates` gives the order). The others are left out, and
users of the type are warned. relay's own commands count before all.

A plugin whose package says what it provides is loaded when a part of it is asked for; every other plugin at once.
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
    read_stamp,
)
from relay.config.plugins.probe import Probed, probe
from relay.guests import contained, name_error
from relay.plugin_places import PLUGIN_FOLDERS, Key

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
        self._plugins: dict[str, PluginInfo] = {}
        """The plugins by key."""
        self._provided: dict[Key, tuple[Thing | Candidate, str]] = {}
        """What counts by kind and name, and its origin. A plugin that is not loaded yet stands for what it provides."""
        self._code: dict[Key, str] = {}
        """The plugin of each module, named as in `stale`."""
        self._left_out: defaultdict[Key, list[str]] = defaultdict(list)
        """Origins of the same that do not count."""
        self._stamps: dict[Path, tuple[str, Stamp]] = {}
        """Each plugin's place, name, and stamp when it was found."""
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
        """Find the plugins in drop-in folders and the installed ones (entry points of the group `relay`).

        What cannot be loaded is in `broken` with its error. What plugins print meanwhile goes to standard error.
        `known`: the fingerprints of another process. Plugins that came after its start are left out, and `stale` has
        the plugins whose files have changed since.
        """
        registry = cls()
        registry.folders = folders
        with redirect_stdout(sys.stderr):
            for candidate in find_candidates(folders):
                if known is None or make_key(candidate.name, candidate.origin) in known:
                    registry._add(candidate, known)
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
        found = find_candidates(self.folders)
        return [key for key in (make_key(one.name, one.origin) for one in found) if key not in self._plugins]

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

    def list_names(self, kind: str) -> list[str]:
        """Return the names of all types of a kind (`source`, `connector`, `filter`, `alert`). Loads none."""
        return [name for of, name in self._provided if of == kind]

    def get_type(self, kind: str, name: str) -> type[Plugin] | None:
        """Return the class of this type; None without any."""
        return cast("type[Plugin] | None", self._find(kind, name))

    def get_types(self, kind: str) -> dict[str, type[Plugin]]:
        """Return all classes of a kind by type name. Loads all plugins with such classes."""
        return {name: one for name in self.list_names(kind) if (one := self.get_type(kind, name))}

    def list_made(self) -> list[str]:
        """Return the event types that sources make themselves. Loads all sources."""
        return [made for source in self.get_types("source").values() for made in getattr(source, "emitted_types", ())]

    def list_commands(self) -> list[click.Command]:
        """Return the commands that plugins add to `relay`."""
        found = [self._find("command", name) for name in self.list_names("command")]
        return [cast("click.Command", command) for command in found if command]

    def list_plugins(self) -> list[PluginInfo]:
        """Return all plugins. Loads all of them: only then is known which are broken."""
        for key in [*self._provided]:
            self._find(*key)
        return [*self._plugins.values()]

    @property
    def broken(self) -> list[PluginInfo]:
        """The plugins that could not be loaded."""
        return [info for info in self._plugins.values() if info.error]

    def find_suspects(self, type: object) -> list[PluginInfo]:
        """Return the broken plugins that might provide this type: the one of that name, else all."""
        return [info for info in self.broken if info.name == type] or self.broken

    def describe_notes(self, info: PluginInfo) -> list[str]:
        """Return the notes of a plugin, and which libraries its types lack. Looks for the libraries."""
        provided = {one: self._find(*one.split(" ", 1)) for one in info.provides}
        lacking = [(one, describe_missing(getattr(thing, "requires", {}))) for one, thing in provided.items()]
        return [*info.notes, *(f"{one} {missing}" for one, missing in lacking if missing)]

    def find_provider(self, kind: str, name: object) -> str:
        """Return the plugin whose type or command of this name counts, and its place."""
        return next((place for key, (_, place) in self._provided.items() if key == (kind, name)), "relay itself")

    @property
    def rivalries(self) -> Mapping[Key, str]:
        """What several plugins provide, by kind and name, in a sentence."""
        return {
            key: f"of {self.find_provider(*key)} counts, that of {' and of '.join(others)} is left out"
            for key, others in self._left_out.items()
        }

    def _add(self, candidate: Candidate, known: Mapping[str, str] | None) -> None:
        """Take over what a plugin provides. Load the plugin, unless its package says what it provides."""
        name, origin, version, notes = candidate.name, candidate.origin, candidate.version, list[str]()
        things: Mapping[Key, Thing | Candidate] = dict.fromkeys(candidate.provides, candidate)
        place = None
        try:
            with contained(until_ctrl_c=True), _limit_time(LOAD_S):  # whatever a plugin does while it is imported
                if place := candidate.find_place():
                    self._stamps[place] = name, read_stamp(place)  # before: what cannot be loaded may be mended
                if not things:
                    module = candidate.load()
                    things = _sort_by_key(_list_things(module))
                    version = version or str(getattr(module, "__version__", ""))
                    notes += () if things else _find_untyped(module)
        except Exception as error:
            info = PluginInfo(name, origin, version, error=name_error(error).strip())
            self._plugins[info.key], self.fingerprints[info.key] = info, BROKEN
            return
        where = origin if candidate.is_drop_in else f"{origin}, {place}"
        provided = [key for key, thing in things.items() if self._claim(key, thing, f"plugin {name} ({where})", notes)]
        self._code |= dict.fromkeys(provided, make_key(name, place))
        info = PluginInfo(name, origin, version, tuple(map(" ".join, provided)), notes=tuple(notes))
        self._plugins[info.key] = info
        self.fingerprints[info.key] = digest = digest_stamp(self._stamps[place][1]) if place else ""
        if known is not None and known[info.key] != digest:
            self._newer.append(make_key(name, place))

    def _claim(self, key: Key, thing: Thing | Candidate, where: str, notes: list[str]) -> bool:
        """Take over a thing, unless another plugin provides the same already. Then note that."""
        kind, name = key
        if kind == "command" and name in (*COMMANDS, *ALIASES):
            owner = "relay itself"
        else:
            known, owner = self._provided.setdefault(key, (thing, where))
            if known is thing:  # it is new; or a package names a class in two places
                return True
        self._left_out[key].append(where)
        notes.append(f"its {kind} {name} is left out: that of {owner} counts")
        return False

    def _find(self, kind: str, name: str) -> Thing | None:
        """Return what counts by this kind and name; None without any. Load its plugin first if necessary."""
        thing, _ = self._provided.get((kind, name), (None, ""))
        if not isinstance(thing, Candidate):
            return thing
        self._load(thing)
        return self._find(kind, name)

    def _load(self, plugin: Candidate) -> None:
        """Put what a plugin provides in the place of the plugin. A broken plugin provides nothing.

        Code that came after the start is code of another relay, or for another relay: it takes a restart.
        """
        things: dict[Key, Thing] = {}
        try:
            with contained(until_ctrl_c=True), _limit_time(LOAD_S), redirect_stdout(sys.stderr):
                if (place := plugin.find_place()) and read_stamp(place) != self._stamps[place][1]:
                    raise RuntimeError("its files have changed since relay found it, and take a restart")
                things = _sort_by_key(_list_things(plugin.load()))
                if things.keys() != {*plugin.provides}:
                    says, has = (", ".join(sorted(map(" ".join, keys))) for keys in (plugin.provides, things))
                    raise TypeError(f"its package says that it provides {says}, and it provides {has or 'nothing'}")
        except Exception as error:
            things, info = {}, self._plugins[make_key(plugin.name, plugin.origin)]
            self._plugins[info.key] = replace(info, provides=(), error=name_error(error).strip())
        left = [
            (key, things.get(key) if thing is plugin else thing, where)
            for key, (thing, where) in self._provided.items()
        ]
        self._provided = {key: (thing, where) for key, thing, where in left if thing is not None}


def stamp_plugins(folders: Sequence[Path], known: Mapping[str, str]) -> Sequence[object]:
    """Return what changes with the plugins that a new process would find. Reads their files. Raises what plugins raise.

    `known`: the fingerprints of this process. To find the files of a later package may run its code: what counts is the
    folder that holds the package.
    """
    found = [*find_candidates(folders)]
    near = [one for one in found if one.is_drop_in or make_key(one.name, one.origin) in known]
    with contained():
        files = [read_stamp(place) for one in near if (place := one.find_place())]
    times = [(folder, Path(folder).stat().st_mtime_ns) for folder in sys.path if Path(folder).is_dir()]
    return [[(one.name, one.origin, one.version) for one in found], files, times]


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


def _find_untyped(module: ModuleType) -> Iterator[str]:
    """Yield notes of the plugin classes without a type name."""
    for one in _find_own_classes(module):
        name, base = one.__name__, one.__bases__[0].__name__
        yield f'class {name} has no type: write class {name}({base}, type="{name.lower()}")'


def _find_own_classes(module: ModuleType) -> Iterator[type[Plugin]]:
    """Yield the plugin classes that the module or its submodules define, with a type name or without."""
    for thing in vars(module).values():
        is_plugin = isinstance(thing, type) and issubclass(thing, Plugin)
        if is_plugin and f"{thing.__module__}.".startswith(f"{module.__name__}."):
            yield thing


def _sort_by_key(things: Iterator[Any]) -> dict[Key, Thing]:
    """Return what a plugin provides by kind and name.

    Raises TypeError if no plugin can provide a thing, ValueError if two things have one name.
    """
    found: dict[Key, Thing] = {}
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
