"""`relay resume`: have a connector go on."""

import click

from relay.cli.access import choose_access
from relay.cli.options import utf8
from relay.cli.state_options import StateOptions, add_places


@click.command
@click.argument("connector", type=utf8)
@add_places
def resume(place: StateOptions, connector: str) -> None:
    """End a pause, or have a connector that waits try again at once.

    Use this command once the destination of an `unauthorized` or failing connector is well again. The command does not
    read secrets again: after a new secret, use `relay reload`. For a systemd credential, restart relay.

    Exit codes: 0 resumed; 1 no such connector.
    """
    done = choose_access(place).resume(connector)
    said = [*(["goes on"] if done.changed else []), *(["tries again at once"] if done.retried else [])]
    click.echo(f"{connector} {' and '.join(said) or 'was not paused'}")
