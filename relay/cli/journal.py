"""`relay journal`: is the journal whole, and what is in it; and how a damaged one is mended."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
import orjson

from relay.admin.acts import repair_entry
from relay.cli.client import login
from relay.cli.options import events_option
from relay.cli.output import while_read
from relay.cli.place import Place, headed, local_places, note, one_object, places
from relay.cli.reading import reading_of
from relay.cli.words import moment
from relay.journal.check import Segment, WorkerCheck
from relay.journal.damage_table import mark_repaired
from relay.journal.dump import PROBLEM, DumpPart
from relay.journal.folders import journals
from relay.journal.known import acknowledged_in
from relay.journal.repair import Repair, plan
from relay.journal.repair import repair as mend
from relay.words import counted, ranges


@click.group
def journal() -> None:
    """Look into the journal, of a relay that runs or one that does not."""


@journal.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@places
def check(place: Place, as_json: bool) -> None:
    """Read the whole journal, verify every checksum and that no offset is missing.

    A torn tail of the last segment is good: a crash leaves it, and nothing in it was acknowledged. Exits with 0 if the
    journal is good, else with 1.
    """
    found = reading_of(place).check()
    if as_json:
        click.echo(one_object([(one.worker, _plain(one)) for one in found.workers], ok=found.ok))
    else:
        lines = headed([(one.worker, _lines(one)) for one in found.workers])
        click.echo("\n".join([*lines, "good" if found.ok else "DAMAGED: see above"]))
    raise SystemExit(0 if found.ok else 1)


def _plain(one: WorkerCheck) -> dict[str, Any]:
    return {"ok": one.ok, "segments": [*map(asdict, one.segments)], "missing": one.missing}


def _lines(one: WorkerCheck) -> list[str]:
    if one.missing:
        return [f"there is no segment, but {counted(one.missing, 'event')} were acknowledged"]
    return [*map(_line, one.segments)]


def _line(one: Segment) -> str:
    times = f"{moment(one.first)} to {moment(one.last)}" if one.events else "-"
    bounds = f"offsets {one.base} to {one.end}  {counted(one.events, 'event')}"
    return f"{one.path.rpartition('/')[2]}  {bounds}  {one.used} bytes  {times}  {one.said}"


@journal.command
@click.option("--dry-run", is_flag=True, help="Only say what would be done; relay may run meanwhile.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@local_places
def repair(place: Place, dry_run: bool, yes: bool) -> None:
    """Save every event of a damaged journal whose record is whole, and mark what is lost.

    relay must not run with it. The damaged files are kept beside, as NAME.log.damaged. Connectors that still needed a
    lost event count it as damaged. With --dry-run, exits with 1 if there is something to repair.
    """
    workers = journals(place.state, place.path)
    needed = [(number, its, acknowledged_in(folder)) for number, (folder, its) in workers.items()]
    planned = [(number, plan(its, offset)) for number, its, offset in needed]
    is_good = not any(repairs for _, repairs in planned)
    lines = headed([(number, [*map(_repair_line, repairs)]) for number, repairs in planned])
    click.echo("good: there is nothing to repair" if is_good else "\n".join(lines))
    if dry_run or is_good:
        raise SystemExit(0 if is_good else 1)
    if not yes:
        click.confirm("Repair the journal?", abort=True)
    done = 0
    for number, its, offset in needed:
        repaired = [one.segment.path.name for one in mend(its, offset)]
        mark_repaired(workers[number][0], repaired)
        done += len(repaired)
    note(place.state, repair_entry([line.strip() for line in lines], login()))
    click.echo(f"{counted(done, 'segment')} repaired; relay journal check says what there is now")


def _repair_line(one: Repair) -> str:
    saved = f"{counted(one.saved, 'event')} saved, {one.lost_events:,} lost: offsets {ranges(one.lost)}"
    return f"{one.segment.path.name}: {one.segment}; {saved}"


@journal.command
@click.option("--from", "start", metavar="OFFSET", default=0, type=click.IntRange(0), help="Begin with this offset.")
@click.option("--until", "stop", metavar="OFFSET", type=click.IntRange(0), help="End before this offset.")
@events_option("Only these, as in conf.d; repeatable.")
@click.option("--limit", metavar="N", type=click.IntRange(0), help="So many at most.")
@places
def dump(place: Place, start: int, stop: int | None, entries: Sequence[str], limit: int | None) -> None:
    """Print events as NDJSON, each with its offset, source, type and when it was received (Unix seconds).

    The event is as it came, but for line breaks between its tokens. With several workers one journal follows the other,
    each with offsets of its own, and the worker is named. Exits with 1 if any part is damaged; the rest is printed all
    the same.
    """
    code = 0
    for line in while_read(reading_of(place).dump(DumpPart(start=start, stop=stop, events=entries, limit=limit))):
        if line.startswith(PROBLEM):
            click.echo(orjson.loads(line)["problem"], err=True)
            code = 1
        else:
            sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    raise SystemExit(code)
