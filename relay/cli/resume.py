"""`relay resume`: have a connector go on."""

from pathlib import Path

import click

from relay.cli.options import state_option, utf8
from relay.cli.pause import change


@click.command
@click.argument("connector", type=utf8)
@state_option
def resume(state: Path, connector: str) -> None:
    """Have a connector go on that relay pause has stopped."""
    click.echo(f"{connector} goes on" if change(state, connector, "resume") else f"{connector} was not paused")
