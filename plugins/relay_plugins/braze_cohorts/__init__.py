"""The connector type `braze_cohorts`, and the command `relay cohorts`.

relay imports this package for the command alone, too, such as for `relay --help`. Only the types import the rest.
"""

from typing import Final

import click
import pluggy

__all__ = ["relay_commands", "relay_types"]

hookimpl: Final = pluggy.HookimplMarker("relay")
"""The marker of `relay.api`, without the rest of `relay.api`: a tenth of a second."""


@hookimpl
def relay_types() -> list[type]:
    """Return the connector type `braze_cohorts`."""
    from relay_plugins.braze_cohorts.connector import BrazeCohorts

    return [BrazeCohorts]


@hookimpl
def relay_commands() -> list[click.Command]:
    """Return the command `relay cohorts`."""
    from relay_plugins.braze_cohorts.cli import cohorts

    return [cohorts]
