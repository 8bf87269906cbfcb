"""The commands that plugins add to `relay`."""

from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from relay.plugin_places import OWN, PLUGIN_FOLDERS, find_drop_ins, find_entry_points

HOOK: Final = "relay_commands"


def find_added() -> Iterable[click.Command]:
    """Find the commands that plugins add.

    To load all plugins takes half a second. Without plugins of others, this loads only those that add commands.
    """
    points = find_entry_points()
    if find_drop_ins(PLUGIN_FOLDERS) or any(point.dist is None or point.dist.name != OWN for point in points):
        from relay.config import Registry

        return Registry.discover(PLUGIN_FOLDERS).commands
    return _ask_own(points)


def _ask_own(points: Iterable[EntryPoint]) -> Iterator[click.Command]:
    """Ask relay's own plugins for their commands: those with the name of the hook in their source."""
    for point in points:
        spec = find_spec(point.module)
        if spec is not None and spec.origin is not None and HOOK in Path(spec.origin).read_text():
            yield from getattr(point.load(), HOOK)()
