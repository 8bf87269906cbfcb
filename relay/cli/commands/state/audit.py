"""`relay audit`: proves from the journal, not from counters, that nothing vanished."""

import json
from collections.abc import Sequence
from itertools import chain

import click
import msgspec

from relay.cli.access import choose_access
from relay.cli.format import format_table, format_time
from relay.cli.journal_progress import show_journal_progress
from relay.cli.state_options import StateOptions, add_places
from relay.inspect import Audit, AuditRow, WholeAudit
from relay.words import format_count, format_ranges, format_size


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@add_places
def audit(place: StateOptions, as_json: bool) -> None:
    """Prove for every connector that no accepted event has vanished.

    Compares the journal with the counts and the parked events: accepted = delivered + unselected + filtered + parked +
    expired + damaged + erased + pending. Also says how many duplicates each source has left out, and whether a source
    refuses everything. Reads the whole journal and changes nothing.

    Exit codes: 0 every count balances; 1 a count does not balance, or something cannot be read.
    """
    access = choose_access(place)
    with show_journal_progress(shown=not as_json) as progress:
        found = access.audit(progress)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        if not isinstance(found, WholeAudit):
            report = [_format_journal(found), *_format_counts(found)]
        else:
            each = [
                [f"{access.name_part(one.worker)}:", _format_journal(one), "", *_format_connectors(one.connectors), ""]
                for one in found.workers
            ]
            report = [*chain(*each), "all together:", *_format_counts(found)]
        if not found.problems:
            result = "Everything balances."
        elif all(row.balances for row in found.connectors):
            result = "NOT BALANCED: the journal has a problem (see above). The counts of all connectors balance."
        else:
            result = "NOT BALANCED: see above"
        click.echo("\n".join([*report, *found.problems, result]))
    raise SystemExit(0 if found.balances else 1)


def _format_journal(found: Audit) -> str:
    offsets = f"offsets {format_ranges([(found.oldest, found.head)])}" if found.head > found.oldest else "no events"
    return f"journal: {format_count(found.segments, 'segment')}, {offsets}"


def _format_counts(found: Audit) -> list[str]:
    lines = ["", *_format_connectors(found.connectors), ""]
    for source in found.sources:
        line = f"source {source.source}: {format_count(source.duplicates, 'duplicate')} left out"
        if refusals := source.refusals:
            since, reason = format_time(refusals.since), f"{refusals.status} {refusals.reason}"
            until = f"; its sender stops for good at {format_time(refusals.deadline)}" if refusals.deadline else ""
            line = f"{line}; it has refused everything since {since}{until}: {reason}"
        lines.append(line)
    for parked in found.parked:
        whose = f"{parked.connector}, from {parked.source}" if parked.connector else f"source {parked.source}"
        removed = ", ".join(f"{events:,} by {setting}" for setting, events in parked.removed.items())
        line = f"parked: {whose}: {parked.cause}: {format_count(parked.events, 'event')}, {format_size(parked.bytes)}"
        lines.append(f"{line}; removed so far: {removed}" if removed else line)
    return [*lines, ""]


def _format_connectors(rows: Sequence[AuditRow]) -> list[str]:
    if not rows:
        return ["(no connector has run)"]
    plain = [*map(msgspec.structs.asdict, rows)]
    words = {True: "yes", False: "NO"}
    cells = [[words[value] if isinstance(value, bool) else str(value) for value in row.values()] for row in plain]
    return format_table([[*plain[0]], *cells])
