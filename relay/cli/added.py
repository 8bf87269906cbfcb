"""The commands that plugins add to `relay`."""

from collections.abc import Iterable
from typing import Final

import click

from relay.plugin_places import OWN, PLUGIN_FOLDERS, find_drop_ins, find_entry_points

OWN_PLUGINS: Final = ("braze_cohorts", "postgres")
"""relay's own plugins that add commands."""


def find_added() -> Iterable[click.Command]:
    """Find the commands that plugins add.

    To load all plugins takes half a second. Without plugins of others, this loads only those that add commands.
    """
    points = find_entry_points()
    if find_drop_ins(PLUGIN_FOLDERS) or any(point.dist is None or point.dist.name != OWN for point in points):
        from relay.config import Registry

        return Registry.discover(PLUGIN_FOLDERS).commands
    own = (point.load() for point in points if point.name in OWN_PLUGINS)
    return [command for plugin in own for command in plugin.relay_commands()]
