"""`relay status`: how relay is, on one screen."""

from collections.abc import Callable
from functools import partial

import click
import msgspec

from relay.cli.client import describe_idle, find_running
from relay.cli.format import format_table
from relay.cli.state_options import OTHER, StateOptions, add_places
from relay.config import Config
from relay.engine import find_holder
from relay.screen import (
    describe_journal,
    describe_process,
    list_lane_rows,
    list_node_rows,
    list_problems,
    list_remarks,
    list_source_rows,
    list_strangers,
    list_worker_rows,
)
from relay.status import Status, diagnose, read_cluster_status


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--quiet", is_flag=True, help="Print nothing if all is well, else the sentences on problems and parked events."
)
@add_places
def status(place: StateOptions, as_json: bool, quiet: bool) -> None:
    """Show on one screen how the running relay is.

    It shows sources, journal and connectors. Below the figures, sentences say what needs a look. A paused connector
    needs a look. Parked events alone are no failure.

    With a journal in PostgreSQL it shows all nodes, from any node, and also while none runs.

    Exit codes: 0 all well; 1 something needs a look, or no relay runs.
    """
    answer = choose_status(place)()
    seen = msgspec.json.decode(answer, type=Status)
    ok = diagnose(seen).ok
    if not (quiet and ok):
        lines = [*list_problems(seen)] if quiet else format_screen(seen)
        click.echo(msgspec.json.format(answer).decode() if as_json else "\n".join(lines))
    raise SystemExit(0 if ok else 1)


def choose_status(place: StateOptions) -> Callable[[], bytes]:
    """Return what reads the status as JSON: from the running relay, or without it from the store of all nodes.

    Raises click.ClickException without either.
    """
    if client := find_running(place.state):
        return partial(client.read, "GET", "/status")
    if place.store.shared_partitions:
        return lambda: msgspec.json.encode(read_cluster_status(place.store, place.config or Config()))
    place.store.check_complete()
    said = describe_idle(place.state)
    raise click.ClickException(said if place.conf or find_holder(place.state) else f"{said}; {OTHER}")


def format_screen(seen: Status) -> list[str]:
    """Format the whole status for people."""
    return [*format_overview(seen), *format_remarks(seen)]


def format_overview(seen: Status) -> list[str]:
    """Format the figures, most of them in tables."""
    several = list_worker_rows(seen), list_node_rows(seen)
    return [
        f"relay {seen.version}, {describe_process(seen)}",
        f"journal: {describe_journal(seen)}",
        *([f"an acknowledged event is {seen.durability}"] if seen.durability else []),
        "",
        *(line for rows in several if rows for line in (*format_table(rows), "")),
        *format_table(list_source_rows(seen)),
        *list_strangers(seen),
        "",
        *format_table(list_lane_rows(seen)),
    ]


def format_remarks(seen: Status) -> list[str]:
    """Format everything else, after an empty line; nothing without any."""
    found = list_remarks(seen)
    return ["", *found] if found else []
