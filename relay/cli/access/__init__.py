"""How commands reach what a state folder holds: through the relay that runs with it, or, if none runs, directly.

`access_of` decides that, and nobody else: a command asks a `StateAccess`. Both forms end in the same functions of
`relay.state` and `relay.inspect`. Commands that need a relay that runs take `relay.cli.client.needed` instead.
"""

from relay.cli.access.contract import Asked, RemovedConnectors, Resumed, StateAccess
from relay.cli.access.local import LocalAccess
from relay.cli.access.remote import RemoteAccess
from relay.cli.client import running
from relay.cli.state_options import StateOptions

__all__ = ["Asked", "RemovedConnectors", "Resumed", "StateAccess", "access_of"]


def access_of(place: StateOptions) -> StateAccess:
    """Choose the form to use. Raise click.ClickException if a relay runs that may not be asked."""
    client = running(place.state)
    return LocalAccess(place) if client is None else RemoteAccess(client)
