"""Where plugins are: folders with drop-in plugins, and installed distributions. Loads none of them."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

Key = tuple[str, str]
"""A kind, and the name of a type or command."""
OWN: Final = "currents-relay"
"""relay's own distribution, with its own plugins."""
KINDS: Final = ("source", "connector", "filter", "alert", "command")
PLUGIN_FOLDERS: Final = (Path("/etc/relay/plugins"), Path("/usr/lib/relay/plugins"))


def find_drop_ins(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the drop-in plugins by name, in the order of precedence: by folder and name."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _is_plugin(path):
                found.setdefault(path.stem, path)
    return found


def find_entry_points() -> dict[EntryPoint, list[Key]]:
    """Return the entry points of installed plugins, each with what its package says that it provides.

    The group `relay` has the plugins. A group such as `relay.connector` has the types of a kind: a type's entry point
    names the module of its plugin. Reads the entry points of all distributions.
    """
    every = entry_points()
    found: dict[EntryPoint, list[Key]] = {point: [] for point in every.select(group="relay")}
    plugins = {(point.dist, point.value): provided for point, provided in found.items()}
    for kind in KINDS:
        for point in every.select(group=f"relay.{kind}"):
            if (point.dist, point.value) in plugins:
                plugins[point.dist, point.value].append((kind, point.name))
    return found


def _is_plugin(path: Path) -> bool:
    if path.name.startswith("test_") or path.name == "conftest.py":  # what `relay new connector` puts beside a plugin
        return False
    return path.name[0] not in "_." and (path.suffix == ".py" or (path / "__init__.py").exists())
