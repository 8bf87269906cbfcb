"""`relay pause`: have a connector hold its events."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import click

from relay.admin import pause_entry, resume_entry
from relay.api.internal import parse_duration
from relay.cli.client import login, running
from relay.cli.format import moment
from relay.cli.options import relay_options, utf8
from relay.cli.state_options import note, told
from relay.state import pause_connector, read_lanes_if_any, resume_connector


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        seconds = None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if seconds == 0:
        raise click.BadParameter("a pause that is over at once is none", ctx, param)
    return seconds


@click.command
@click.argument("connector", type=utf8)
@click.option("--for", "seconds", metavar="DURATION", callback=_seconds, help="It goes on by itself after so long.")
@relay_options
def pause(state: Path, connector: str, seconds: float | None) -> None:
    """Hold the events of a connector; senders notice nothing.

    The events stay in the journal. Batches on their way still end. The pause lasts, over restarts, until `relay
    resume`, or for as long as --for says.

    Exit codes: 0 paused; 1 no such connector.
    """
    now = time.time()
    until = None if seconds is None else now + seconds
    if not change(state, connector, "pause", until)["changed"]:
        click.echo(f"{connector} was paused already")
    elif until is None:
        click.echo(f"{connector} is paused; relay resume {connector} ends it")
    else:
        click.echo(f"{connector} is paused until {moment(until)}; relay resume {connector} ends it before")


def change(
    state: Path, connector: str, action: Literal["pause", "resume"], until: float | None = None
) -> Mapping[str, bool]:
    """Pause a connector, until a time (Unix seconds) or for good, or resume it, whether relay runs or not. Raises
    ClickException.

    `changed`: it was not so before; `retried`: it tries again at once."""
    if client := running(state):
        target = f"/lanes/{quote(connector, safe='')}/{action}"
        asked: Mapping[str, bool] = client.ask("POST", target if until is None else f"{target}?until={until!r}")
        return asked
    if not state.is_dir():
        raise click.ClickException(f"there is no state folder {state}: --state names it")
    with told():
        known = sorted(lane.connector for lane in read_lanes_if_any(state))
        if connector not in known:
            raise click.ClickException(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
        if action == "pause":
            changed, entry = pause_connector(state, connector, until), pause_entry(connector, until, login())
        else:
            changed, entry = resume_connector(state, connector), resume_entry(connector, login())
        if changed:
            note(state, entry)
        return {"changed": changed}
