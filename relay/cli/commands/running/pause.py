"""`relay pause`: have a connector hold its events."""

import time

import click

from relay.api.internal import parse_duration
from relay.cli.access import choose_access
from relay.cli.format import format_time
from relay.cli.options import utf8
from relay.cli.state_options import StateOptions, add_places


def _read_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        seconds = None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if seconds == 0:
        raise click.BadParameter("a pause that is over at once is none", ctx, param)
    return seconds


@click.command
@click.argument("connector", type=utf8)
@click.option("--for", "seconds", metavar="DURATION", callback=_read_seconds, help="End the pause after this time.")
@add_places
def pause(place: StateOptions, connector: str, seconds: float | None) -> None:
    """Hold the events of a connector; senders notice nothing.

    The events stay in the journal. Batches on their way still end. The pause lasts until `relay resume`,
    or for the time of --for, also over restarts.

    Exit codes: 0 paused; 1 no such connector.
    """
    now = time.time()
    until = None if seconds is None else now + seconds
    changed = choose_access(place).pause(connector, until)
    if not changed:
        click.echo(f"{connector} was paused already")
    elif until is None:
        click.echo(f"{connector} is paused; relay resume {connector} ends it")
    else:
        click.echo(f"{connector} is paused until {format_time(until)}; relay resume {connector} ends it before")
