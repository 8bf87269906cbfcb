"""`relay replay`: have a range of the journal delivered once more to one connector."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from relay.api.internal import check_rate
from relay.cli.access import Asked, StateAccess, choose_access
from relay.cli.format import format_time
from relay.cli.journal_progress import show_journal_progress
from relay.cli.options import events_option, moment_option, utf8
from relay.cli.output import get_plain
from relay.cli.state_options import StateOptions, add_headings, add_places, tell_problems
from relay.inspect import USUAL_RATE, Stretch, WorkerCount
from relay.store import Cursor, Replay
from relay.words import format_count, format_ranges, format_span

LOOK_S: Final = 0.5
_NUMBER = click.argument("number", type=click.IntRange(1, (1 << 63) - 1))


def _read_rate(text: str) -> float:
    try:
        return check_rate(float(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group(invoke_without_command=True)
@click.option("--connector", metavar="NAME", type=utf8, help="Who gets the events.")
@moment_option("--since", "Events that relay received since: 2h ago, or 2026-01-31T12:00 (UTC).")
@moment_option("--until", "Events that relay received before: 2h ago, or 2026-01-31T12:00 (UTC).")
@events_option("Only these, as in conf.d; repeatable.")
@click.option(
    "--rate",
    metavar="N",
    type=_read_rate,
    default=USUAL_RATE,
    show_default=True,
    help="Events per second at most; 0: no limit.",
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@add_places
@click.pass_context
def replay(
    ctx: click.Context,
    place: StateOptions,
    connector: str | None,
    since: float | None,
    until: float | None,
    entries: tuple[str, ...],
    rate: float,
    dry_run: bool,
    yes: bool,
    detach: bool,
) -> None:
    """Deliver a range of the journal to one connector, again or for the first time.

    Counts the events first, says how long it will take, and asks. The connector gets them beside its live events,
    through its selection and filters as they are now. Its own position stays where it is. A replay goes on after a
    restart, and Ctrl-C leaves it running. Events that are pending for the connector are left out.
    What cannot be delivered is parked.

    Exit codes: 0 done, or begun with --detach; 1 nothing to replay, not confirmed, or cancelled.
    """
    if ctx.invoked_subcommand is not None:
        return
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--until is before --since (2h is later than 3h ago): there is nothing between them")
    if connector is None:
        raise click.UsageError("say to whom: --connector NAME")
    access = choose_access(place)
    stretch = Stretch(connector=connector, events=entries, since=since or 0.0, until=until)
    with show_journal_progress() as progress:
        found = access.count_replay(stretch, progress)
    tell_problems(found.problems)
    click.echo(
        "\n".join(
            add_headings(
                [
                    (part.worker, [_format_count(part, connector, share)])
                    for part, share in found.split_rate(found.find_lowest_rate(rate))
                ],
                access.name_part,
            )
        )
    )
    if not found.wanted:
        raise click.ClickException("there is nothing to replay")
    if dry_run:
        return
    if not yes:
        click.confirm(f"Send {format_count(found.wanted, 'event')} to {connector}?", abort=True)
    replays = [
        (part.worker, Replay(connector, Cursor(part.start, part.start), part.stop, entries or ("*",), share))
        for part, share in found.split_rate(rate)
        if part.wanted
    ]
    asked = [_request_replay(access, worker, replay) for worker, replay in replays]
    if (running := [one.number for one in asked if one.runs]) and not detach:
        _follow(place, running)


def _request_replay(access: StateAccess, worker: int, replay: Replay) -> Asked:
    asked = access.ask_replay(replay, worker)
    click.echo(f"replay {asked.number} asked for; relay replay cancel {asked.number} ends it")
    if not asked.runs:
        which = access.name_part(worker) if worker else "relay"
        click.echo(f"{which} does not run: it begins after the next start")
    return asked


def _format_count(found: WorkerCount, connector: str, lowest_rate: float) -> str:
    duration = f"about {format_span(found.wanted / lowest_rate)} at {lowest_rate:,.0f}/s" if lowest_rate else ""
    speed = f"; {duration or 'as fast as the destination accepts events'}" if found.wanted else ""
    offsets = f"offsets {format_ranges([(found.start, found.stop)])}: " if found.events else ""
    events = format_count(found.events, "event")
    return f"{offsets}{events}, of which {connector} gets {found.wanted:,} before its filters{speed}"


def _find_replay(access: StateAccess, number: int) -> Replay:
    found = next((one for one in access.list_replays() if one.number == number), None)
    if found is None:
        raise click.ClickException(f"no replay has the number {number}")
    return found


def _follow(place: StateOptions, numbers: Sequence[int]) -> None:
    """Show the progress of replays until all have ended; Ctrl-C leaves the replays running."""
    named = ", ".join(map(str, numbers))
    length = sum(one.stop - one.cursor.start for one in _find_replays(choose_access(place), numbers))
    with click.progressbar(length=length, label=f"replay {named}", file=get_plain(sys.stderr)) as bar:
        try:
            while True:
                access = choose_access(place)
                found = _find_replays(access, numbers)
                bar.update(sum(one.cursor.counts.total for one in found) - bar.pos)
                if all(one.status not in ("waiting", "running") for one in found) or not access.runs:
                    break
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            click.echo(f"\nit goes on; relay replay cancel {named} ends it", err=True)
            raise SystemExit(0) from None
    click.echo("\n".join(map(_format_replay, found)))
    raise SystemExit(0 if all(one.status == "done" for one in found) else 1)


def _find_replays(access: StateAccess, numbers: Sequence[int]) -> list[Replay]:
    return [_find_replay(access, number) for number in numbers]


@replay.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@add_places
def list_(place: StateOptions, as_json: bool) -> None:
    """List all replays, the last one first.

    Exit codes: 0 listed; 1 no state.
    """
    found = choose_access(place).list_replays()
    if as_json:
        click.echo(json.dumps([*map(_make_entry, found)], indent=2))
    else:
        click.echo("\n".join(map(_format_replay, found)) or "no replay was ever asked for")


@replay.command
@_NUMBER
@add_places
def watch(place: StateOptions, number: int) -> None:
    """Show how far a replay is, until it has ended.

    Exit codes: 0 done; 1 cancelled, or no such replay.
    """
    _follow(place, [number])


@replay.command
@_NUMBER
@add_places
def cancel(place: StateOptions, number: int) -> None:
    """End a replay where it is; batches on their way still arrive.

    Exit codes: 0 cancelled; 1 no such replay.
    """
    access = choose_access(place)
    if not access.cancel_replay(number):
        raise click.ClickException(f"replay {number} is {_find_replay(access, number).status}")
    click.echo(f"replay {number} cancelled")


def _make_entry(one: Replay) -> dict[str, Any]:
    counts = one.cursor.counts
    return {
        "number": one.number,
        "connector": one.connector,
        "status": one.status,
        "start": one.cursor.start,
        "stop": one.stop,
        "events": list(one.entries),
        "rate": one.rate,
        "asked": format_time(one.asked),
        "asked_by": one.asked_by,
        "delivered": counts.delivered,
        "unselected": counts.unselected,
        "filtered": counts.filtered,
        "parked": counts.parked,
        "expired": counts.expired,
        "damaged": counts.damaged,
        "erased": counts.erased,
        "to_come": one.stop - one.cursor.start - counts.total,
    }


def _format_replay(one: Replay) -> str:
    fields = _make_entry(one)
    shown = ("delivered", "unselected", "filtered", "parked", "expired", "damaged", "erased", "to_come")
    counts = ", ".join(f"{name.replace('_', ' ')} {fields[name]:,}" for name in shown if fields[name])
    head = f"replay {one.number} of {one.connector}, offsets {format_ranges([(one.cursor.start, one.stop)])}"
    by = f" by {one.asked_by}" if one.asked_by else ""
    return f"{head}, asked {fields['asked']}{by}: {one.status}; {counts or 'nothing yet'}"
