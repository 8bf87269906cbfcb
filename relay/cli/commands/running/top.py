"""`relay top`: how relay is, on one screen, again and again."""

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Final

import click
import msgspec

from relay.cli.commands.running.status import choose_status, format_overview, format_remarks, format_screen
from relay.cli.output import get_plain, stop_unread
from relay.cli.state_options import StateOptions, add_places
from relay.status import Status
from relay.words import format_count

CLEAR: Final = "\x1b[H\x1b[J"
"""What makes a terminal begin at its top, with nothing below."""
CUT: Final = ">"
"""Ends a line that goes on to the right."""


@click.command
@click.option(
    "--every",
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    help="Seconds between two times.",
)
@click.option("--times", metavar="N", type=click.IntRange(1), help="End after N times.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON each time.")
@add_places
def top(place: StateOptions, every: float, times: int | None, as_json: bool) -> None:
    """Show `relay status` again and again, until Ctrl-C.

    On a terminal it shows as much, from the top, as fits.

    Exit codes: 0 ended; 1 no relay runs.
    """
    read = choose_status(place)
    with suppress(KeyboardInterrupt):
        for look in stop_unread(range(times) if times else count()):
            time.sleep(every if look else 0)
            answer = read()
            if as_json:
                click.echo(answer)
                continue
            seen = msgspec.json.decode(answer, type=Status)
            lines = format_screen(seen)
            if sys.stdout.isatty():
                click.echo(CLEAR, nl=False, file=get_plain(sys.stdout))
                lines = fit(format_overview(seen), format_remarks(seen), *shutil.get_terminal_size())
            click.echo("\n".join(lines))


def fit(figures: Sequence[str], sentences: Sequence[str], columns: int, rows: int) -> list[str]:
    """Fit the status into columns and rows. Cut lines of figures, wrap sentences, and keep the first lines."""
    cut = [line if len(line) <= columns else f"{line[: columns - len(CUT)]}{CUT}" for line in figures]
    wrapped = [part for line in sentences for part in textwrap.wrap(line, columns) or [""]]
    lines, room = [*cut, *wrapped], rows - 1  # the cursor has the last row
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"... {format_count(len(lines) - room + 1, 'more line')}: relay status"[:columns]]
