"""`relay replay`: have a range of the journal delivered once more to one connector."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from relay.admin.diagnosis import span
from relay.catalogue import Selection
from relay.cli.desk import desk_of
from relay.cli.journal import Place, headed, lanes, moment, places, tell_damage, told
from relay.cli.options import moment_option, state_option
from relay.journal import Cursor, Replay
from relay.journal.books import Books, acknowledged
from relay.journal.folders import worker_folder, worker_of
from relay.journal.inspect import Inspected, blocks, segments
from relay.journal.lock import is_locked
from relay.words import counted

RATE: Final = 1000.0
LOOK_S: Final = 0.5
_NUMBER = click.argument("number", type=click.IntRange(1, (1 << 63) - 1))


@dataclass(frozen=True, slots=True)
class Found:
    """What a replay would take: the offsets from `start` up to `stop`, and how many events of them are wanted."""

    start: int
    stop: int
    wanted: int

    @property
    def events(self) -> int:
        """All events of the range."""
        return self.stop - self.start


@click.group(invoke_without_command=True)
@click.option("--connector", metavar="NAME", help="Who gets the events.")
@moment_option("--since", "Events that relay received since: 2h ago, or 2026-01-31T12:00 (UTC).")
@moment_option("--until", "Events that relay received before: 2h ago, or 2026-01-31T12:00 (UTC).")
@click.option("--events", "entries", metavar="SELECTION", multiple=True, help="Only these, as in conf.d; repeatable.")
@click.option("--rate", metavar="N", default=RATE, show_default=True, help="Events per second at most; 0: no limit.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@places
@click.pass_context
def replay(
    ctx: click.Context,
    place: Place,
    connector: str | None,
    since: float | None,
    until: float | None,
    entries: tuple[str, ...],
    rate: float,
    dry_run: bool,
    yes: bool,
    detach: bool,
) -> None:
    """Have events that are still in the journal delivered once more to one connector.

    Counts first, then asks. The connector gets them beside its live events, through its selection and filters as they
    are now; its own position stays where it is. A replay goes on after a restart. What the connector has yet to get for
    the first time is left out.
    """
    if ctx.invoked_subcommand is not None:
        return
    if since is not None and until is not None and until <= since:
        raise click.UsageError("--until is before --since (2h is later than 3h ago): there is nothing between them")
    name = _configured(place, connector)
    selection = Selection(entries or ["*"], within=_selection(place, name))
    found = [(each, _find(each, lane, since, until, selection)) for each, lane in _lanes(place, name)]
    wanted, pace = sum(part.wanted for _, part in found), _pace(place, name, rate)
    parts = [(each, part, part.wanted / max(1, wanted)) for each, part in found]
    click.echo("\n".join(headed([(each, [_told(part, name, share * pace)]) for each, part, share in parts])))
    if not wanted:
        raise click.ClickException("there is nothing to replay")
    if dry_run:
        return
    if not yes:
        click.confirm(f"Send {counted(wanted, 'event')} to {name} once more?", abort=True)
    asked = [
        (each, Replay(name, Cursor(part.start, part.start), part.stop, entries or ("*",), share * rate))
        for each, part, share in parts
        if part.wanted
    ]
    numbers = [_ask(place, each, replay) for each, replay in asked]
    if (running := [number for number in numbers if _runs(place.state, number)]) and not detach:
        _follow(place.state, running)


def _ask(place: Place, part: Place, replay: Replay) -> int:
    number = desk_of(place.state).ask_replay(replay, part.worker)
    click.echo(f"replay {number} asked for; relay replay cancel {number} ends it")
    if not _runs(place.state, number):
        which = f"worker {part.worker}" if part.worker else "relay"
        click.echo(f"{which} does not run with this state folder: it begins after the next start")
    return number


def _runs(state: Path, number: int) -> bool:
    """Whether the worker runs that a replay is of."""
    return is_locked(worker_folder(state, worker_of(number)))


def _configured(place: Place, connector: str | None) -> str:
    if connector is None:
        raise click.UsageError("say to whom: --connector NAME")
    if place.config is not None and connector not in place.config.connectors:
        known = ", ".join(sorted(place.config.connectors)) or "none"
        raise click.ClickException(f"no connector {connector} is configured; there are: {known}")
    return connector


def _lanes(place: Place, connector: str) -> list[tuple[Place, Books]]:
    """The connector's books in each worker's folder."""
    found = [(each, lane) for each in place.workers for lane in lanes(each.state) if lane.connector == connector]
    if not found:
        raise click.ClickException(f"connector {connector} has not run yet: set its `from` to begin in the past")
    return found


def _selection(place: Place, connector: str) -> Selection | None:
    return Selection(place.config.connectors[connector].settings.events) if place.config else None


def _pace(place: Place, connector: str, rate: float) -> float:
    """Events per second at most, by the replay's own limit and the connector's; 0: no limit."""
    own = place.config.connectors[connector].settings.rate if place.config else 0.0
    return min(filter(None, (rate, own)), default=0.0)


def _find(place: Place, lane: Books, since: float | None, until: float | None, selection: Selection) -> Found:
    listed = segments(place.journal, acknowledged(lanes(place.state)))
    first, last, wanted = None, lane.cursor.position, 0
    for block in _recent(listed, since or 0.0):
        if block.received < (since or 0.0):
            continue
        start, stop = block.offsets[0], min(block.offsets[-1] + 1, lane.cursor.position)
        if start >= stop or (until is not None and block.received >= until):
            last = min(last, start)
            break
        first = start if first is None else first
        wants = [not kind.is_erased and selection.wants(kind.type) for kind in block.kinds]
        wanted += sum(wants[kind] for kind in block.index[: stop - start])
    tell_damage(listed)
    return Found(last if first is None else first, last, wanted)


def _recent(listed: Sequence[Inspected], since: float) -> Iterator[Any]:
    """The blocks of all segments that were written to since then."""
    recent = [segment for segment in listed if segment.path.stat().st_mtime >= since]
    return (block for _, block in blocks(recent))


def _told(found: Found, connector: str, pace: float) -> str:
    paced = f"about {span(found.wanted / pace)} at {pace:,.0f}/s" if pace else ""
    takes = paced or "as fast as the destination takes it"
    return (
        f"offsets {found.start} up to {found.stop}: {counted(found.events, 'event')}, of which {connector} gets"
        f" {found.wanted:,} before its filters; {takes}"
    )


def _one(state: Path, number: int) -> Replay:
    found = next((one for one in desk_of(state).replays() if one.number == number), None)
    if found is None:
        raise click.ClickException(f"no replay has the number {number}")
    return found


def _follow(state: Path, numbers: Sequence[int]) -> None:
    """Show how far they are until they have ended; Ctrl-C leaves them running."""
    named = ", ".join(map(str, numbers))
    length = sum(one.stop - one.cursor.start for one in _those(state, numbers))
    with click.progressbar(length=length, label=f"replay {named}", file=sys.stderr) as bar:
        try:
            while any(map(_goes_on, found := _those(state, numbers))) and is_locked(state):
                bar.update(sum(one.cursor.counts.total for one in found) - bar.pos)
                time.sleep(LOOK_S)
            bar.update(sum(one.cursor.counts.total for one in found) - bar.pos)
        except KeyboardInterrupt:
            click.echo(f"\nit goes on; relay replay cancel {named} ends it", err=True)
            raise SystemExit(0) from None
    click.echo("\n".join(map(_line, found)))
    raise SystemExit(0 if all(one.status == "done" for one in found) else 1)


def _those(state: Path, numbers: Sequence[int]) -> list[Replay]:
    return [_one(state, number) for number in numbers]


def _goes_on(one: Replay) -> bool:
    return one.status in ("waiting", "running")


@replay.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
def list_(state: Path, as_json: bool) -> None:
    """List all replays, the last one first."""
    with told():
        found = desk_of(state).replays()
    if as_json:
        click.echo(json.dumps([*map(_plain, found)], indent=2))
    else:
        click.echo("\n".join(map(_line, found)) or "no replay was ever asked for")


@replay.command
@_NUMBER
@state_option
def watch(state: Path, number: int) -> None:
    """Show how far a replay is until it has ended. Exits with 0 if it is done, 1 if it was cancelled."""
    with told():
        _follow(state, [number])


@replay.command
@_NUMBER
@state_option
def cancel(state: Path, number: int) -> None:
    """End a replay where it is; what is on its way still arrives."""
    with told():
        desk = desk_of(state)
        if not desk.cancel_replay(number):
            raise click.ClickException(f"replay {number} is {_one(state, number).status}")
    click.echo(f"replay {number} cancelled")


def _plain(one: Replay) -> dict[str, Any]:
    counts = one.cursor.counts
    return {
        "number": one.number,
        "connector": one.connector,
        "status": one.status,
        "start": one.cursor.start,
        "stop": one.stop,
        "events": list(one.entries),
        "rate": one.rate,
        "asked": moment(one.asked),
        "delivered": counts.delivered,
        "unselected": counts.unselected,
        "filtered": counts.filtered,
        "parked": counts.parked,
        "expired": counts.expired,
        "erased": counts.erased,
        "to_come": one.stop - one.cursor.start - counts.total,
    }


def _line(one: Replay) -> str:
    fields = _plain(one)
    shown = ("delivered", "unselected", "filtered", "parked", "expired", "erased", "to_come")
    counts = ", ".join(f"{name.replace('_', ' ')} {fields[name]:,}" for name in shown if fields[name])
    head = f"replay {one.number} of {one.connector}, offsets {one.cursor.start} up to {one.stop}"
    return f"{head}, asked {fields['asked']}: {one.status}; {counts or 'nothing yet'}"
