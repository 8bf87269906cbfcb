"""`relay journal`: is the journal whole, and what is in it; and how a damaged journal is repaired.

`init` is of the engine in PostgreSQL, and `repair` of the embedded one: it works on files.
"""

import sys
from collections.abc import Sequence

import click
import orjson
from msgspec.structs import asdict

from relay.admin import make_repair_entry
from relay.cli.access import choose_access
from relay.cli.commands.state.copy import copy
from relay.cli.format import format_time
from relay.cli.journal_progress import show_journal_progress
from relay.cli.options import events_option
from relay.cli.output import stop_unread
from relay.cli.state_options import (
    StateOptions,
    add_headings,
    add_local_places,
    add_places,
    encode_workers,
    note_history,
    tell_problems,
)
from relay.client import find_login
from relay.engine import make_tables, make_tables_sql
from relay.inspect import PROBLEM, DumpPart, Repair, WorkerCheck, plan_repairs, repair_all
from relay.words import format_count, format_ranges


@click.group
def journal() -> None:
    """Look into the journal, whether relay runs or not."""


journal.add_command(copy)


@journal.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@add_places
def check(place: StateOptions, as_json: bool) -> None:
    """Read the whole journal, and verify every checksum and offset.

    Shows offsets, times, bytes and state of each segment: good, open, torn at its tail, damaged, or followed by a gap.
    A torn tail of the last segment is harmless: a crash leaves it, and nothing in it was acknowledged.

    Exit codes: 0 good; 1 damaged, or a gap.
    """
    access = choose_access(place)
    with show_journal_progress(shown=not as_json) as progress:
        found = access.check_journal(progress)
    if as_json:
        click.echo(
            encode_workers(
                [
                    (one.worker, {"ok": one.ok, "segments": [*map(asdict, one.segments)], "missing": one.missing})
                    for one in found.workers
                ],
                ok=found.ok,
            )
        )
    else:
        lines = add_headings([(one.worker, _format_worker(one)) for one in found.workers], access.name_part)
        click.echo("\n".join([*lines, "good" if found.ok else "DAMAGED: see above"]))
    raise SystemExit(0 if found.ok else 1)


def _format_worker(one: WorkerCheck) -> list[str]:
    if one.missing:
        return [f"there is no segment, but {format_count(one.missing, 'event')} were acknowledged"]
    lines = []
    for segment in one.segments:
        times = f"{format_time(segment.first)} to {format_time(segment.last)}" if segment.events else "-"
        offsets = format_ranges([(segment.base, segment.end)]) if segment.events else f"from {segment.base} on"
        bounds = f"offsets {offsets}  {format_count(segment.events, 'event')}"
        name = segment.path.rpartition("/")[2]
        lines.append(f"{name}  {bounds}  {segment.used} bytes  {times}  {segment.said}")
    return lines


@journal.command
@click.option("--sql", "only_sql", is_flag=True, help="Print the SQL for an admin of the database, and make nothing.")
@add_local_places
def init(place: StateOptions, only_sql: bool) -> None:
    """Make the tables of a journal in PostgreSQL.

    Makes the schema that journal.schema names, relay's tables in it, and journal.partitions partitions. A second run
    makes the partitions that are lacking, and adds what a newer relay needs. It removes nothing. It warns if this node
    has worked with other tables. With --sql the role of relay needs no right to make schemas, and relay need not reach
    the database.

    Exit codes: 0 made, or nothing was lacking; 1 not made.
    """
    if place.journal.backend == "embedded":
        raise click.ClickException('journal.backend is "embedded": relay makes its files when it starts')
    if only_sql:
        click.echo(make_tables_sql(place.journal), nl=False)
    else:
        made, warning = make_tables(place.journal, place.state)
        click.echo(made or "nothing is lacking: all tables and partitions are there")
        if warning:
            click.echo(f"warning: {warning}", err=True)


@journal.command
@click.option("--dry-run", is_flag=True, help="Only say what would be done; relay may run meanwhile.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@add_local_places
def repair(place: StateOptions, dry_run: bool, yes: bool) -> None:
    """Save every whole event of a damaged journal, and name the offsets that are lost.

    Stop relay first; with --dry-run it may run. The damaged files stay beside as NAME.log.damaged. Connectors count the
    events that they still needed as damaged.

    Exit codes: 0 good or repaired; 1 not confirmed, relay runs, or --dry-run found damage.
    """
    place.check_embedded("pg_amcheck and pg_checksums find damage, and a backup or a standby of the server replaces it")
    planned = plan_repairs(place.state, place.path)
    is_good = not any(planned.values())
    parts = [(number, [*map(_format_repair, repairs)]) for number, repairs in planned.items()]
    lines = add_headings(parts, "worker {}".format)
    click.echo("good: there is nothing to repair" if is_good else "\n".join(lines))
    if dry_run or is_good:
        raise SystemExit(0 if is_good else 1)
    place.store.check_complete()
    if not yes:
        click.confirm("Repair the journal?", abort=True)
    done = repair_all(place.state, place.path)
    note_history(place.store, make_repair_entry([line.strip() for line in lines], find_login()))
    click.echo(f"{format_count(done, 'segment')} repaired; relay journal check says what there is now")


def _format_repair(one: Repair) -> str:
    saved = f"{format_count(one.saved, 'event')} saved, {one.lost_events:,} lost: offsets {format_ranges(one.lost)}"
    return f"{one.segment.path.name}: {one.segment}; {saved}"


@journal.command
@click.option("--from", "start", metavar="OFFSET", default=0, type=click.IntRange(0), help="Begin with this offset.")
@click.option("--until", "stop", metavar="OFFSET", type=click.IntRange(0), help="End before this offset.")
@events_option("Only these, as in conf.d; repeatable.")
@click.option("--limit", metavar="N", type=click.IntRange(0), help="So many at most.")
@add_places
def dump(place: StateOptions, start: int, stop: int | None, entries: Sequence[str], limit: int | None) -> None:
    """Print events as NDJSON: offset, time of receipt (Unix seconds), source, type, event.

    The event is as it came, but for line breaks between its tokens. With several workers one journal follows the other,
    each with its own offsets, and the worker is named. Damaged parts are left out.

    Exit codes: 0 printed; 1 a part is damaged.
    """
    part, problems = DumpPart(start=start, stop=stop, events=entries, limit=limit), list[str]()
    with show_journal_progress(shown=not sys.stdout.isatty()) as progress:
        for line in stop_unread(choose_access(place).dump_journal(part, progress)):
            if line.startswith(PROBLEM):
                problems.append(orjson.loads(line)["problem"])
            else:
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    tell_problems(problems)
    raise SystemExit(1 if problems else 0)
