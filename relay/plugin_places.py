"""Where plugins are: folders with drop-in plugins, and installed distributions. Loads none of them."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

OWN: Final = "currents-relay"
"""relay's own distribution, with its own plugins."""
PLUGIN_FOLDERS: Final = (Path("/etc/relay/plugins"), Path("/usr/lib/relay/plugins"))


def find_drop_ins(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the drop-in plugins by name, in the order of precedence: by folder and name."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _is_plugin(path):
                found.setdefault(path.stem, path)
    return found


def find_entry_points() -> set[EntryPoint]:
    """Return the entry points of installed plugins. Reads those of all distributions."""
    return set(entry_points(group="relay"))


def _is_plugin(path: Path) -> bool:
    if path.name.startswith("test_") or path.name == "conftest.py":  # what `relay new connector` puts beside a plugin
        return False
    return path.name[0] not in "_." and (path.suffix == ".py" or (path / "__init__.py").exists())
