"""Access of commands to a state folder: through the running relay, or directly if none runs.

Only `choose_access` decides that: a command asks a `StateAccess`. Both forms end in the same methods of
`relay.store.Store` and functions of `relay.inspect`. Commands that need a running relay use
`relay.cli.client.require_running` instead.
"""

from relay.cli.access.contract import Asked, RemovedConnectors, Resumed, StateAccess
from relay.cli.access.local import LocalAccess
from relay.cli.access.remote import RemoteAccess
from relay.cli.client import find_running
from relay.cli.state_options import StateOptions

__all__ = ["Asked", "RemovedConnectors", "Resumed", "StateAccess", "access_of"]


def choose_access(place: StateOptions) -> StateAccess:
    """Choose the form to use. Raises ClientError if a relay runs that may not be asked."""
    client = find_running(place.state)
    return LocalAccess(place) if client is None else RemoteAccess(client)
