"""`relay journal`: is the journal whole, and what is in it. Changes nothing and needs no lock."""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any

import click

from relay.admin.tap import line
from relay.api import Event
from relay.catalogue import Selection
from relay.cli.options import conf_option, plugins_option, state_option
from relay.config import CONF_FOLDERS, PLUGIN_FOLDERS, Config, ConfigError, Registry, load
from relay.journal.books import Books, acknowledged, books
from relay.journal.folders import journal_folder, worker_folders
from relay.journal.inspect import Inspected, blocks, inspect, segments
from relay.journal.repair import Repair, plan
from relay.journal.repair import repair as mend
from relay.words import counted


@dataclass(frozen=True, slots=True)
class Place:
    """What the options name: a state folder, the journal that goes with it, and the configuration if it is valid."""

    state: Path
    journal: Path
    config: Config | None
    worker: int = 0

    @property
    def workers(self) -> list["Place"]:
        """The place of each worker that ever ran; the first worker's is this one."""
        path = self.config.journal.path if self.config else Path("journal")
        folders = worker_folders(self.state)
        return [Place(one, journal_folder(self.state, path, n), self.config, n) for n, one in folders.items()]


def places(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a state folder, and hand what they mean to the command as its first argument."""

    @wraps(command)
    def placed(*, conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], **options: Any) -> None:
        with told():
            command(_place(conf, state, plugin_folders), **options)

    return conf_option(state_option(plugins_option(placed)))


@contextmanager
def told() -> Iterator[None]:
    """Tell what cannot be read without a traceback."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from None


def _place(conf: Path | None, state: Path, plugin_folders: Sequence[Path]) -> Place:
    try:
        registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
        config = load([conf] if conf else CONF_FOLDERS, registry, secrets_required=False).config
    except ConfigError as error:
        if conf:
            click.echo(f"warning: {conf} is left out of account: {error.mistakes[0]} (see relay check)", err=True)
        return Place(state, state / "journal", None)
    return Place(state, state / config.journal.path, config)


def headed(parts: Sequence[tuple[Place, Sequence[str]]]) -> list[str]:
    """Lines on each worker, under a heading if there are several."""
    if len(parts) == 1:
        return [*parts[0][1]]
    return [line for place, lines in parts for line in (f"worker {place.worker}:", *lines)]


def one_object(parts: Sequence[tuple[Place, dict[str, Any]]], **whole: Any) -> str:
    """What is known of each worker as one JSON object: `whole` and their list if there are several."""
    if len(parts) > 1:
        found = whole | {"workers": [{"worker": place.worker} | part for place, part in parts]}
    else:
        found = parts[0][1]
    return json.dumps(found, indent=2)


def lanes(state: Path) -> list[Books]:
    """The books of all lanes of one worker; none if no connector has run yet."""
    try:
        return books(state)
    except FileNotFoundError:
        return []


def moment(unix_seconds: float | None) -> str:
    """Write a time for people: UTC, to the second."""
    return "-" if unix_seconds is None else f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


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
    found = [(each, _inspected(each)) for each in place.workers]
    is_whole = all(map(_is_whole, (segments for _, segments in found)))
    if as_json:
        plain = [(each, {"ok": _is_whole(its), "segments": [*map(_plain, its)]}) for each, its in found]
        click.echo(one_object(plain, ok=is_whole))
    else:
        lines = headed([(each, [*map(_line, its)]) for each, its in found])
        click.echo("\n".join([*lines, "good" if is_whole else "DAMAGED: see above"]))
    raise SystemExit(0 if is_whole else 1)


def _inspected(place: Place) -> list[Inspected]:
    needed = acknowledged(lanes(place.state))  # first: what is acknowledged now is in the journal that is then read
    return inspect(place.journal, needed)


def _is_whole(found: Sequence[Inspected]) -> bool:
    return all(segment.is_whole for segment in found)


def _plain(segment: Inspected) -> dict[str, Any]:
    fields = asdict(segment) | {"path": str(segment.path), "events": segment.end - segment.base, "said": str(segment)}
    return {name: value for name, value in fields.items() if name not in ("stop", "needed")}


def _line(segment: Inspected) -> str:
    events = segment.end - segment.base
    bounds = f"offsets {segment.base} to {segment.end}  {counted(events, 'event')}"
    times = f"{moment(segment.first)} to {moment(segment.last)}" if events else "-"
    return f"{segment.path.name}  {bounds}  {segment.used} bytes  {times}  {segment}"


@journal.command
@click.option("--dry-run", is_flag=True, help="Only say what would be done; relay may run meanwhile.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@places
def repair(place: Place, dry_run: bool, yes: bool) -> None:
    """Save every event of a damaged journal whose record is whole, and mark what is lost.

    relay must not run with it. The damaged files are kept beside, as NAME.log.damaged. Connectors that still needed a
    lost event count it as expired. With --dry-run, exits with 1 if there is something to repair.
    """
    needed = [(each, acknowledged(lanes(each.state))) for each in place.workers]
    planned = [(each, plan(each.journal, offset)) for each, offset in needed]
    is_good = not any(repairs for _, repairs in planned)
    lines = headed([(each, [*map(_repair_line, repairs)]) for each, repairs in planned])
    click.echo("good: there is nothing to repair" if is_good else "\n".join(lines))
    if dry_run or is_good:
        raise SystemExit(0 if is_good else 1)
    if not yes:
        click.confirm("Repair the journal?", abort=True)
    done = sum(len(mend(each.journal, offset)) for each, offset in needed)
    click.echo(f"{counted(done, 'segment')} repaired; relay journal check says what there is now")


def _repair_line(one: Repair) -> str:
    lost = ", ".join(f"{start} to {stop}" for start, stop in one.lost)
    saved = f"{counted(one.saved, 'event')} saved, {one.lost_events} lost: offsets {lost}"
    return f"{one.segment.path.name}: {one.segment}; {saved}"


@journal.command
@click.option("--from", "start", metavar="OFFSET", default=0, type=click.IntRange(0), help="Begin with this offset.")
@click.option("--until", "stop", metavar="OFFSET", type=click.IntRange(0), help="End before this offset.")
@click.option("--events", "entries", metavar="SELECTION", multiple=True, help="Only these, as in conf.d; repeatable.")
@click.option("--limit", metavar="N", type=click.IntRange(0), help="So many at most.")
@places
def dump(place: Place, start: int, stop: int | None, entries: tuple[str, ...], limit: int | None) -> None:
    """Print events as NDJSON, each with its offset, source, type and when it was received (Unix seconds).

    The event is as it came, but for line breaks between its tokens. With several workers one journal follows the other,
    each with offsets of its own, and the worker is named. Exits with 1 if any part is damaged; the rest is printed all
    the same.
    """
    workers = place.workers
    listed = {each.worker: segments(each.journal, acknowledged(lanes(each.state))) for each in workers}
    found = (
        line(event, worker if len(workers) > 1 else None)
        for worker, its in listed.items()
        for event in _events(its, start, stop, Selection(entries))
    )
    sys.stdout.buffer.writelines(islice(found, limit))
    sys.stdout.buffer.flush()
    raise SystemExit(max(map(tell_damage, listed.values())))


def _events(listed: Sequence[Inspected], start: int, stop: int | None, selection: Selection) -> Iterator[Event]:
    for _, block in blocks(listed, start):
        for event in block.events():
            if stop is not None and event.offset >= stop:
                return
            if event.offset >= start and selection.wants(event.type):
                yield event


def tell_damage(listed: Sequence[Inspected]) -> int:
    """Name the damaged segments on standard error; return the exit code."""
    damaged = [segment for segment in listed if segment.condition in ("damaged", "gap")]
    for segment in damaged:
        click.echo(f"{segment.path}: {segment}; relay journal check looks at all of it", err=True)
    return 1 if damaged else 0
