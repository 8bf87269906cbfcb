"""`relay tail`: events as they pass."""

import sys
from pathlib import Path
from urllib.parse import urlencode

import click

from relay.cli.client import needed
from relay.cli.options import state_option


@click.command
@click.option("--events", "entries", metavar="SELECTION", multiple=True, help="Only these, as in conf.d; repeatable.")
@click.option("--at", metavar="ingest|CONNECTOR", default="ingest", show_default=True, help="Where to look.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="End after so many.")
@click.option("--json", "as_json", is_flag=True, help="The same: it is NDJSON in any case.")
@state_option
def tail(state: Path, entries: tuple[str, ...], at: str, limit: int | None, as_json: bool) -> None:
    """Print events as they pass, as NDJSON: once they are on disk, or, at a connector, behind its filters.

    It never slows the flow: where more pass than can be shown, a line {"dropped": N} says so. Ends with Ctrl-C, or when
    relay stops.
    """
    query = urlencode([("at", at), *(("events", entry) for entry in entries)])
    out = sys.stdout.buffer
    try:
        for number, line in enumerate(needed(state).lines(f"/tail?{query}", timeout=None), 1):
            out.write(line)
            out.flush()
            if number == limit:
                return
    except KeyboardInterrupt:
        return
