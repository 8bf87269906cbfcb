"""`relay tail`: events as they pass."""

import json
from contextlib import suppress
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

import click

from relay.catalogue import Selection
from relay.cli.client import require_running
from relay.cli.format import format_time
from relay.cli.options import events_option, plugins_option, relay_options, utf8, warn_of_unknown_entries
from relay.cli.output import stop_unread
from relay.client import Gone
from relay.config import PLUGIN_FOLDERS, Registry
from relay.words import escape_text, format_count


@click.command
@events_option("Only these, as in conf.d; repeatable.")
@click.option("--at", metavar="ingest|CONNECTOR", type=utf8, default="ingest", show_default=True, help="Where to look.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="End after N events.")
@click.option("--json", "as_json", is_flag=True, help="Print NDJSON, each event as it came.")
@relay_options
@plugins_option
def tail(
    state: Path,
    plugin_folders: tuple[Path, ...],
    entries: tuple[str, ...],
    at: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print events as they pass.

    The command shows events once they are on disk or, with --at, after the filters of a connector. It never slows
    deliveries. It counts events that it cannot show; with --json as {"dropped": N}. It ends with Ctrl-C, or when relay
    stops.

    Exit codes: 0 ended; 1 no relay runs, or no such connector.
    """
    if Selection(entries).warnings():  # else no plugin need be asked
        warn_of_unknown_entries(entries, Registry.discover(plugin_folders or PLUGIN_FOLDERS).list_made)
    query = urlencode([("at", at), *(("events", entry) for entry in entries)])
    with suppress(KeyboardInterrupt, Gone):
        lines = require_running(state).read_lines(f"/tail?{query}", timeout=None)
        for line in stop_unread(islice(lines, limit)):
            click.echo(line.rstrip(b"\n") if as_json else _format_event(line))


def _format_event(line: bytes) -> str:
    one = json.loads(line)
    if "dropped" in one:
        return f"... {format_count(one['dropped'], 'event')} left out"
    text = json.dumps(one["event"], ensure_ascii=False, separators=(",", ":"))
    offset = f"{one['worker']}:{one['offset']}" if "worker" in one else one["offset"]
    return escape_text(f"{format_time(one['received'])}  {offset}  {one['source']}  {one['type']}  {text}")
