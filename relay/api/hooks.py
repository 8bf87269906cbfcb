"""The hooks. relay calls them once, at start-up; per event there are plain calls only.

A module that just defines classes needs no hook: relay finds its `Connector`, `Source`, `Filter` and `Alert` classes
that have a type name. Hooks are for modules that make their classes in another way, or add commands.
"""

from collections.abc import Iterable

import click
import pluggy

from relay.api.plugin import Plugin

hookspec = pluggy.HookspecMarker("relay")
hookimpl = pluggy.HookimplMarker("relay")


@hookspec
def relay_types() -> Iterable[type[Plugin]]:  # type: ignore[empty-body]
    """Return the connector, source, filter and alert classes that this plugin provides."""


@hookspec
def relay_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Return commands to add to `relay`."""
