"""`relay parked`: look at parked events, take them out, drop them, have them replayed."""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from typing import IO, Any

import click
from msgspec.structs import fields

from relay.api.internal import one_line
from relay.cli.access import StateAccess, choose_access
from relay.cli.format import format_time
from relay.cli.options import moment_option, utf8
from relay.cli.output import stop_unread
from relay.cli.state_options import StateOptions, add_places
from relay.store import CAUSES, Parked, ParkedQuery, find_partition
from relay.words import escape_text, format_count, shorten

Command = Callable[..., None]
_NUMBERS = click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=click.IntRange(1, (1 << 63) - 1))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group
def parked() -> None:
    """Look at parked events (dead letters); replay or drop them.

    Parked events stay for `parked.retention` after their last failure; those that wait for a replay stay longer. Works
    whether relay runs or not.
    """


def _add_access(command: Command) -> Command:
    """Add the options that say where relay is, handed on as `access`."""

    @add_places
    @functools.wraps(command)
    def wrapped(place: StateOptions, **options: Any) -> None:
        command(access=choose_access(place), **options)

    return wrapped


def _add_selection(command: Command) -> Command:
    """Add the options that select parked events, handed on as `which`."""

    @click.option("--connector", metavar="NAME", type=utf8, help="Only those of this connector.")
    @click.option("--source", metavar="NAME", type=utf8, help="Only those that came by this source.")
    @click.option("--cause", "--reason", "cause", type=click.Choice(CAUSES), help="Only those with this cause.")
    @moment_option("--since", "Only those that failed since: 2h ago, or 2026-01-31T12:00 (UTC).")
    @click.option("--limit", metavar="N", type=click.IntRange(1), help="Only the oldest N.")
    @functools.wraps(command)
    def wrapped(
        *,
        connector: str | None,
        source: str | None,
        cause: str | None,
        since: float | None,
        limit: int | None,
        numbers: tuple[int, ...] = (),
        **options: Any,
    ) -> None:
        which = ParkedQuery(numbers=numbers, connector=connector, source=source, cause=cause, since=since, limit=limit)
        command(which=which, **options)

    return wrapped


@parked.command("list")
@_add_selection
@_JSON
@_add_access
def list_(access: StateAccess, which: ParkedQuery, as_json: bool) -> None:
    """List parked events, the oldest first, without their content.

    Exit codes: 0 listed; 1 no such parked event, or no state.
    """
    _check_some(access, which)
    found = access.read_parked(which, bodies=False)
    for page in stop_unread(
        _format_json(map(_list_fields, found)) if as_json else _format_table(map(_make_row, found))
    ):
        click.echo("\n".join(page))


def _format_json(values: Iterator[Any]) -> Iterator[list[str]]:
    """Yield a JSON array in pages of lines, a value a line, while the values come."""
    before = "["
    while page := [*islice(values, PAGE)]:
        lines = [*map(json.dumps, page)]
        yield [before + lines[0], *(f",{line}" for line in lines[1:])]
        before = ","
    yield ["[]" if before == "[" else "]"]


def _format_table(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield a table in pages of lines while its rows come. Columns may grow wider from page to page."""
    widths = [0] * len(_HEADINGS)
    page = [_HEADINGS, *islice(rows, PAGE)]
    while page:
        widths = [max(width, *map(len, column)) for width, column in zip(widths, zip(*page, strict=True), strict=True)]
        lines = []
        for *others, reason in page:
            padded = (f"{cell:{side}{width}}" for cell, side, width in zip(others, "><<<><", widths, strict=False))
            lines.append(escape_text("  ".join([*padded, reason])))
        yield lines
        page = [*islice(rows, PAGE)]


PAGE = 1000
SAID = 10
SEARCHED = 10_000
_SHOWN = ["number", *(f.name for f in fields(Parked) if f.name not in ("number", "body", "id_field", "time_field"))]
_HEADINGS = ["number", "last failure (UTC)", "connector", "cause", "tries", "type", "reason"]


def _make_row(one: Parked) -> list[str]:
    whose = one.connector or f"source {one.source}"
    reason = f"{one.reason} (to be replayed)" if one.again else one.reason
    return [
        str(one.number),
        _format_time(one.last) or "-",
        whose,
        one.cause,
        str(one.attempts),
        one.type or "-",
        reason,
    ]


@parked.command
@click.argument("number", type=click.IntRange(1, (1 << 63) - 1))
@_JSON
@_add_access
def show(access: StateAccess, number: int, as_json: bool) -> None:
    """Show everything about one parked event, and its content.

    Exit codes: 0 shown; 1 no such parked event, or no state.
    """
    one = next(access.read_parked(ParkedQuery(numbers=[number])), None)
    if one is None:
        raise click.ClickException(f"no parked event has the number {number}")
    text, body = one.body.decode(errors="replace"), None
    with suppress(ValueError, RecursionError):  # what is nested too deep is shown as it came
        body = json.loads(one.body)
        text = json.dumps(body, indent=2)
    if as_json:
        click.echo(json.dumps(_list_fields(one) | {"body": text if body is None else body}))
        return
    for name, value in _list_fields(one).items():
        click.echo(f"{name + ':':<12}{escape_text(str(value)) if value not in (None, '') else '-'}")
    click.echo("\n" + text)


@parked.command
@_add_selection
@click.argument("file", metavar="[FILE]", default="-", type=click.File("wb", lazy=True))
@_add_access
def export(access: StateAccess, which: ParkedQuery, file: IO[bytes]) -> None:
    """Write the content of parked events to FILE (default: standard output).

    One event per line, for `relay send`. The events stay parked. Events that the destination refused are written as the
    filters of the connector left them.

    Exit codes: 0 written; 1 no such parked event, no state, or FILE cannot be written.
    """
    number = _check_some(access, which)
    for one in stop_unread(access.read_parked(which)):
        file.write(one_line(one.body) + b"\n")
    click.echo(f"{number} exported", err=True)


@parked.command
@_NUMBERS
@_add_selection
@click.option("--yes", is_flag=True, help="Do not ask.")
@_add_access
def drop(access: StateAccess, which: ParkedQuery, yes: bool) -> None:
    """Remove parked events for good, by number or by selection.

    The counts still have them as parked. A selection asks first.

    Exit codes: 0 removed; 1 no such parked event, no state, or not confirmed.
    """
    _check_given(which)
    number = _check_some(access, which)
    if not (yes or which.numbers):
        click.confirm(f"Drop {format_count(number, 'parked event')} for good?", abort=True)
    click.echo(f"{access.drop_parked(which)} dropped")


@parked.command
@_NUMBERS
@_add_selection
@_add_access
def replay(access: StateAccess, which: ParkedQuery) -> None:
    """Deliver parked events once more, each to its own connector.

    Name them by number or by selection. A running relay begins within a second, a stopped one after its next start.
    What fails again stays parked. Events that a filter failed on go through selection and filters again; others are
    sent as they are.

    Exit codes: 0 marked for delivery; 1 no such parked event, or no state.
    """
    _check_given(which)
    number = _check_some(access, which)
    marked = access.mark_parked(which)
    if marked < number:
        advice = "unreadable at the source; export, correct, and send with relay send"
        click.echo(f"{number - marked} cannot be replayed: {advice}", err=True)
    if not marked:
        raise click.exceptions.Exit(1)
    click.echo(f"{marked} to be replayed")
    for line in islice(_find_waiting(access, which), SAID):
        click.echo(line, err=True)


def _find_waiting(access: StateAccess, which: ParkedQuery) -> Iterator[str]:
    """Yield a sentence for each event on the first page that waits for an earlier event without a replay."""
    some = [one for one in islice(access.read_parked(which, bodies=False), PAGE) if one.cause == "order"]
    firsts: dict[tuple[int, str | None, str | None], Parked] = {}
    for connector in {one.connector for one in some}:
        for one in islice(access.read_parked(ParkedQuery(connector=connector), bodies=False), SEARCHED):
            firsts[_get_order_key(one)] = min(
                firsts.get(_get_order_key(one), one), one, key=attrgetter("offset", "part")
            )
    for one in some:
        first = firsts.get(_get_order_key(one))
        if one.key is not None and first is not None and first.number != one.number and not first.again:
            yield f"{one.number} waits for {first.number}, an earlier one of its key: replay that or drop it"


def _get_order_key(one: Parked) -> tuple[int, str | None, str | None]:
    """Return worker, connector and key: events with the same three stay in order."""
    return find_partition(one.number), one.connector, one.key


def _check_given(which: ParkedQuery) -> None:
    if which == ParkedQuery():
        raise click.UsageError("say which: numbers, or a selection such as --connector NAME")


def _check_some(access: StateAccess, which: ParkedQuery) -> int:
    number, named = access.count_parked(which), {*which.numbers}
    missing = ""
    if which.limit is None and number < len(named):
        missing = _list_numbers(named - {one.number for one in access.read_parked(which, bodies=False)})
    if not number:
        said = f"there is no such parked event{missing and f': {missing}'}"
        raise click.ClickException(said if which != ParkedQuery() else "no event is parked")
    if missing:
        click.echo(f"there is no such parked event: {missing}", err=True)
    return number


def _list_numbers(numbers: set[int]) -> str:
    """Return the first of these numbers in words, and how many more there are."""
    return ", ".join(shorten([*map(str, sorted(numbers))], SAID))


def _list_fields(one: Parked) -> dict[str, Any]:
    """Return all fields but the content, with times as text."""
    values = {name: getattr(one, name) for name in _SHOWN}
    return values | {name: _format_time(values[name]) for name in ("received", "first", "last", "again")}


@functools.lru_cache(10_000)
def _format_time(seconds: float | None) -> str | None:
    return format_time(seconds) if seconds else None
