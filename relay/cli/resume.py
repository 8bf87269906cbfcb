"""`relay resume`: have a connector go on."""

from pathlib import Path

import click

from relay.cli.options import relay_options, utf8
from relay.cli.pause import change


@click.command
@click.argument("connector", type=utf8)
@relay_options
def resume(state: Path, connector: str) -> None:
    """Have a connector go on that relay pause has stopped, or that waits for its destination.

    What waits to be tried again is tried at once: say so when the destination is mended. Exits with 1 if there is no
    such connector.
    """
    done = change(state, connector, "resume")
    said = [*(["goes on"] if done["changed"] else []), *(["tries again at once"] if done.get("retried") else [])]
    click.echo(f"{connector} {' and '.join(said) or 'was not paused'}")
