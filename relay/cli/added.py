"""The commands that plugins add to `relay`."""

from collections.abc import Iterable

import click

from relay.plugin_places import OWN, PLUGIN_FOLDERS, find_drop_ins, find_entry_points


def find_added() -> Iterable[click.Command]:
    """Find the commands that plugins add.

    Without plugins of others, this loads only those of relay's own plugins that add commands.
    """
    points = find_entry_points()
    others = (not provided or point.dist is None or point.dist.name != OWN for point, provided in points.items())
    if find_drop_ins(PLUGIN_FOLDERS) or any(others):
        from relay.config import Registry

        return Registry.discover(PLUGIN_FOLDERS).list_commands()
    own = (point.load() for point, provided in points.items() if any(kind == "command" for kind, _ in provided))
    return [command for plugin in own for command in plugin.relay_commands()]
