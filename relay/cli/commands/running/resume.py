"""`relay resume`: have a connector go on."""

from pathlib import Path

import click

from relay.cli.access import choose_access
from relay.cli.options import relay_options, utf8
from relay.cli.state_options import StateOptions, convert_errors


@click.command
@click.argument("connector", type=utf8)
@relay_options
def resume(state: Path, connector: str) -> None:
    """End a pause, or have a connector that waits try again at once.

    Use this command once the destination of an `unauthorized` or failing connector is well again. The command does not
    read secrets again: after a new secret, use `relay reload`. For a systemd credential, restart relay.

    Exit codes: 0 resumed; 1 no such connector.
    """
    with convert_errors():
        done = choose_access(StateOptions(state)).resume(connector)
    said = [*(["goes on"] if done.changed else []), *(["tries again at once"] if done.retried else [])]
    click.echo(f"{connector} {' and '.join(said) or 'was not paused'}")
