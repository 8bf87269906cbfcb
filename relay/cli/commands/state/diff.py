"""`relay diff`: what a new configuration would have made of the recorded events."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from relay.cli.access import choose_access
from relay.cli.commands.config.check import BAD_CONFIGURATION, report
from relay.cli.format import format_time
from relay.cli.journal_progress import show_journal_progress
from relay.cli.options import CONF, moment_option
from relay.cli.state_options import StateOptions, add_places, tell_problems
from relay.config import read_texts
from relay.trial import ConnectorDiff, Diff, DiffGroup, DiffRequest, FieldChange
from relay.words import format_count

GROUPS: Final = {
    "newly_wanted": "newly wanted",
    "no_longer_wanted": "no longer wanted",
    "changed": "changed content",
    "failing": "failing",
}


@click.command
@click.argument("new", metavar="NEW_CONF_DIR", type=CONF)
@moment_option("--since", help="Events received since then (default: 24h).")
@click.option("--connector", "connectors", metavar="NAME", multiple=True, help="Only this connector; repeatable.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="So many events at most, from the oldest on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@add_places
def diff(
    place: StateOptions,
    new: Path,
    since: float | None,
    connectors: Sequence[str],
    limit: int | None,
    as_json: bool,
) -> None:
    """Show what a new configuration would change, by the recorded events.

    The new configuration is in NEW_CONF_DIR. Nothing is delivered. The events go through the selections and filters of
    the configuration in force, and of the new one. For each connector the command counts events: as before, newly
    wanted, no longer wanted, with changed content, and failing in a filter. It names the entries and filters that make
    the difference, and shows examples field by field. Other settings of a connector that differ are listed, and without
    --connector also those of other tables, such as sources and the journal; what they change is not compared.

    A running relay reads its journal in a process with low priority. If no relay runs, the configuration in force is
    that of --conf.

    Exit codes: 0 nothing differs; 1 something differs, or cannot be read; 78 the new configuration has mistakes.
    """
    asked = DiffRequest(files=read_texts(new), since=since, connectors=connectors, limit=limit)
    access = choose_access(place)
    with show_journal_progress(shown=not as_json) as progress:
        found = access.diff(asked, progress)
    tell_problems(found.problems)
    if as_json:
        click.echo(json.dumps(_make_plain(found), indent=2))
    elif found.mistakes:
        click.echo(report(found.mistakes, ()), err=True)
    else:
        click.echo("\n".join(_format(found)))
    if found.mistakes:
        raise SystemExit(BAD_CONFIGURATION)
    raise SystemExit(1 if found.is_different or found.problems else 0)


def _make_plain(found: Diff) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    plain["since"] = format_time(found.since)
    for connector in plain["connectors"]:
        for group in GROUPS:
            for example in connector[group]["examples"]:
                example["received"] = format_time(example["received"])
    return {"different": found.is_different, **plain}


def _format(found: Diff) -> Iterator[str]:
    yield f"{format_count(found.events, 'event')} received since {format_time(found.since)}"
    same = [one for one in found.connectors if not one.is_different and not one.settings]
    for one in found.connectors:
        if one not in same:
            yield ""
            yield from _format_connector(one)
    if same:
        yield ""
        yield f"the same: {', '.join(one.connector for one in same)}"
    if found.other_tables:
        yield ""
        yield "settings of other tables that differ; only deliveries of recorded events are compared:"
        yield from (f"  {_format_change(each)}" for each in found.other_tables)


def _format_connector(one: ConnectorDiff) -> Iterator[str]:
    if one.problem:
        yield f"{one.connector}: not compared: {one.problem}"
        return
    yield f"{one.connector}: {'different' if one.is_different else 'the same'}"
    yield f"  as before: {one.as_before:,}"
    for name, words in GROUPS.items():
        group: DiffGroup = getattr(one, name)
        if group.events:
            yield f"  {words}: {group.events:,}"
            yield from _format_group(group)
    if one.settings:
        yield "  settings that differ" + (
            ", what they change is not compared but for events and filters:" if one.other_settings else ":"
        )
        yield from (f"    {_format_change(each)}" for each in one.settings)


def _format_group(group: DiffGroup) -> Iterator[str]:
    for reason in group.reasons:
        yield f"    {reason.events:,}: {reason.before} -> {reason.now}"
    for example in group.examples:
        yield f"    such as {example.id or 'without id'}, {example.type}, offset {example.offset}"
        yield from (f"      {_format_change(each)}" for each in example.fields)


def _format_change(one: FieldChange) -> str:
    return f"{one.path}: {one.before or 'not there'} -> {one.now or 'not there'}"
