"""`relay reload`: the running relay goes over to the configuration as it is on disk."""

import json
from pathlib import Path

import click

from relay.cli.client import require_running
from relay.cli.commands.config.check import BAD_CONFIGURATION
from relay.cli.options import relay_options


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@relay_options
@click.pass_context
def reload(ctx: click.Context, state: Path, as_json: bool) -> None:
    """Have the running relay go over to the new configuration.

    Waits until the new configuration is in force. relay does not touch what has not changed. If there is a mistake,
    nothing changes, and the command prints every mistake.

    Exit codes: 0 reloaded; 1 no relay runs; 78 the configuration has mistakes, and the old one goes on.
    """
    answer = require_running(state).ask("POST", "/reload", timeout=None)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo("\n".join(answer["said"]), err=not answer["ok"])
        if not answer["ok"]:
            click.echo("not reloaded: relay goes on with the configuration it has", err=True)
    ctx.exit(0 if answer["ok"] else BAD_CONFIGURATION)
