"""`relay trace ID`: where an event is, and what becomes of it in every connector."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from relay.cli.access import choose_access
from relay.cli.format import format_time
from relay.cli.journal_progress import show_journal_progress
from relay.cli.options import utf8
from relay.cli.state_options import StateOptions, add_places, encode_workers, tell_problems
from relay.inspect import TracedConnector, WorkerTrace
from relay.words import escape_text, format_count

PARTS_SHOWN: Final = 20
"""Of those that filters split an event into, for people; JSON has all."""


@click.command
@click.argument("id", type=utf8)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@add_places
def trace(place: StateOptions, id: str, as_json: bool) -> None:
    """Find the event with this ID, and show its way through relay.

    Looks in the journal and among the parked events. For each connector it says whether the selection wants the event
    and by which entry, and what the filters make of it. It says whether the event is delivered, pending or parked, and
    after how many attempts and which answer, if that was not the first. `not delivered` counts failed attempts before
    the last attempt, or before relay divided the batch. Each arrival of an event is shown by itself. What relay has not
    noted follows from the configuration as it is now, and the command says so.

    Exit codes: 0 found; 1 not found.
    """
    access = choose_access(place)
    with show_journal_progress(shown=not as_json) as progress:
        found = access.trace(id, progress).workers
    hits = [one for one in found if one.journal or one.parked]
    tell_problems([problem for one in found for problem in one.problems])
    if as_json:
        click.echo(encode_workers([(one.worker, _make_entry(id, one)) for one in found], id=id))
    elif hits:
        click.echo("\n".join(_format_hits(hits, access.name_part if len(found) > 1 else None)))
    else:
        whole, is_part = re.subn(r"-([2-9]|[1-9]\d{1,2}|1000)$", "", id)
        part = f"; is it a part of {escape_text(whole)}?" if is_part else ""
        why = f"it never came, is too old, or is damaged{part}"
        click.echo(f"{escape_text(id)}: not found in the journal, nor parked: {why}")
    raise SystemExit(0 if hits else 1)


def _make_entry(id: str, found: WorkerTrace) -> dict[str, Any]:
    plain = msgspec.to_builtins(found)
    for one in plain["journal"]:
        for way in one["connectors"]:
            way["attempts"] = [
                tried | {"first": format_time(tried["first"]), "last": format_time(tried["last"])}
                for tried in way["attempts"]
            ]
            way["replays"] = [
                one | {"asked": format_time(one["asked"]), "ended": format_time(one["ended"]) if one["ended"] else None}
                for one in way["replays"]
            ]
    return {"id": id, "journal": plain["journal"], "parked": plain["parked"]}


def _format_hits(hits: Sequence[WorkerTrace], name: Callable[[int], str] | None) -> Iterator[str]:
    """Yield the lines of all hits. `name` names a worker; None: there is only one."""
    for found in hits:
        if name is not None:
            yield f"{name(found.worker)}:"
        for one in found.journal:
            came = f"{escape_text(one.type)} from {one.source}, received {format_time(one.received)}"
            yield f"offset {one.offset}: {came}, in {one.segment}"
            for way in one.connectors:
                yield from _format_connector(way)
        for parked in found.parked:
            whose = f"connector {parked.connector}" if parked.connector else f"source {parked.source}"
            part = f"part {parked.part} of the event at offset {parked.offset}"
            place = part if parked.part else f"offset {parked.offset} (no longer in the journal)"
            place = "" if parked.offset is None else f", {place}"
            yield f"parked under {whose}{place}: {parked.cause}: {escape_text(parked.reason)}"


def _format_connector(way: TracedConnector) -> Iterator[str]:
    """Yield what becomes of an event in a connector, then its parts, attempts and replays."""
    if not way.configured:
        unknown = "no valid configuration to tell if it is wanted (relay check)"
        wanted = unknown if way.configured is None else "switched off" if way.disabled else "not configured"
    elif way.entry is None:
        wanted = "not wanted: no entry matches"
    else:
        wanted = f'{"wanted" if way.wanted else "not wanted"} by "{way.entry}"'
    yield escape_text(f"  {way.connector}: " + "; ".join(filter(None, (wanted, way.filters, way.state))))
    for part in way.parts[:PARTS_SHOWN]:
        own_id = "" if part.id is None else f", id {escape_text(part.id)}"
        yield f"    part {part.part}: {escape_text(part.type)}{own_id}"
    if (more := len(way.parts) - PARTS_SHOWN) > 0:
        yield f"    and {format_count(more, 'more part')}"
    for tried in way.attempts:
        by = f"by replay {tried.replay}: " if tried.replay else ""
        answer = f", last refusal: {escape_text(tried.answer)}" if tried.answer else ""
        times = f"{format_time(tried.first)} to {format_time(tried.last)}"
        yield f"    {by}{tried.outcome} after {format_count(tried.attempts, 'attempt')}, {times}{answer}"
    for resent in way.replays:
        ended = f", ended {format_time(resent.ended)}" if resent.ended else ""
        yield f"    by replay {resent.replay}: {resent.state}, asked for {format_time(resent.asked)}{ended}"
