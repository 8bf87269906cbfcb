"""`relay audit`: proves from the journal, not from counters, that nothing vanished."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain

import click

from relay.cli.access import choose_access
from relay.cli.format import format_size, format_table, format_time
from relay.cli.state_options import StateOptions, add_places
from relay.inspect import Audit, AuditRow, WholeAudit
from relay.state import ParkedTotal, SourceLedger
from relay.words import format_count


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
    found = choose_access(place).audit()
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        if not isinstance(found, WholeAudit):
            report = [_format_journal(found), *_format_counts(found)]
        else:
            each = [
                [f"worker {one.worker}:", _format_journal(one), "", *_format_connectors(one.connectors), ""]
                for one in found.workers
            ]
            report = [*chain(*each), "all workers:", *_format_counts(found)]
        if not found.problems:
            result = "Everything balances."
        elif all(row.balances for row in found.connectors):
            result = "NOT BALANCED: the ledgers of all connectors do, the journal does not: see above"
        else:
            result = "NOT BALANCED: see above"
        click.echo("\n".join([*report, *found.problems, result]))
    raise SystemExit(0 if found.balances else 1)


def _format_journal(found: Audit) -> str:
    return f"journal: {format_count(found.segments, 'segment')}, offsets from {found.oldest} up to {found.head}"


def _format_counts(found: Audit) -> list[str]:
    return [
        "",
        *_format_connectors(found.connectors),
        "",
        *map(_format_source, found.sources),
        *map(_format_parked, found.parked),
        "",
    ]


def _format_parked(one: ParkedTotal) -> str:
    whose = f"{one.connector}, from {one.source}" if one.connector else f"source {one.source}"
    removed = ", ".join(f"{events:,} by {setting}" for setting, events in one.removed.items())
    lying = f"parked: {whose}: {one.cause}: {format_count(one.events, 'event')}, {format_size(one.bytes)}"
    return f"{lying}; removed so far: {removed}" if removed else lying


def _format_source(one: SourceLedger) -> str:
    duplicates = f"source {one.source}: {format_count(one.duplicates, 'duplicate')} left out"
    if one.refusals is None:
        return duplicates
    since, reason = format_time(one.refusals.since), f"{one.refusals.status} {one.refusals.reason}"
    until = f"; its sender stops for good at {format_time(one.refusals.deadline)}" if one.refusals.deadline else ""
    return f"{duplicates}; it has refused everything since {since}{until}: {reason}"


def _format_connectors(rows: Sequence[AuditRow]) -> list[str]:
    if not rows:
        return ["(no connector has run)"]
    plain = [*map(asdict, rows)]
    return format_table([[*plain[0]], *([_format_value(value) for value in row.values()] for row in plain)])


def _format_value(value: object) -> str:
    return {True: "yes", False: "NO"}[value] if isinstance(value, bool) else str(value)
