"""`relay top`: how relay is, on one screen, again and again."""

import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import click
import msgspec

from relay.admin import Status
from relay.cli.client import needed
from relay.cli.options import state_option
from relay.cli.status import screen

CLEAR: Final = b"\x1b[H\x1b[J"
"""What makes a terminal begin at its top, with nothing below."""


@click.command
@click.option(
    "--every",
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    help="Between two looks.",
)
@click.option("--times", metavar="N", type=click.IntRange(1), help="End after so many looks.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON each time.")
@state_option
def top(state: Path, every: float, times: int | None, as_json: bool) -> None:
    """Show what relay status shows, again and again, until Ctrl-C."""
    client = needed(state)
    with suppress(KeyboardInterrupt):
        for look in range(times) if times else count():
            time.sleep(every if look else 0)
            _show(client.read("GET", "/status"), as_json=as_json)


def _show(told: bytes, *, as_json: bool) -> None:
    if as_json:
        click.echo(told)
        return
    if sys.stdout.isatty():
        click.echo(CLEAR, nl=False)
    click.echo("\n".join(screen(msgspec.json.decode(told, type=Status))))
