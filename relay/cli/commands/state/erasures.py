"""`relay erasures`: have a user's events removed, and the receipts."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import msgspec

from relay.api import OtherId, User
from relay.cli.access import choose_access
from relay.cli.format import format_time
from relay.cli.journal_progress import show_journal_progress
from relay.cli.options import utf8
from relay.cli.state_options import StateOptions, add_places, tell_problems
from relay.inspect import Receipt, WorkerReceipt
from relay.store import make_user, parse_alias
from relay.words import escape_text, format_count

WHO: Final = "say who: --user-id ID, --external-id ID"
KEPT: Final = (
    "what connectors keep themselves (memberships of cohorts, see relay cohorts members; files that were written) and"
    " what is at the destinations"
)
AFTER: Final = {
    "failed": ", will be tried again while it is configured",
    "forgotten": " before it had erased the user",
}
"""What follows an answer."""
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _add_user_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a user."""
    external = click.option(
        "--external-id", "external_ids", metavar="ID", type=utf8, multiple=True, help="Yours; repeatable."
    )
    return click.option("--user-id", metavar="ID", type=utf8, help="Braze's id.")(external(command))


@click.group
def erasures() -> None:
    """Remove all events of a user, and look at the receipts."""


@erasures.command
@_add_user_options
@click.option("--device-id", "devices", metavar="ID", type=utf8, multiple=True, help="Of a device; repeatable.")
@click.option("--email", "emails", metavar="ADDRESS", type=utf8, multiple=True, help="Repeatable.")
@click.option("--alias", "aliases", metavar="LABEL:NAME", type=utf8, multiple=True, help="In Braze; repeatable.")
@add_places
def request(
    place: StateOptions,
    user_id: str | None,
    external_ids: tuple[str, ...],
    devices: tuple[str, ...],
    emails: tuple[str, ...],
    aliases: tuple[str, ...],
) -> None:
    """Request the erasure of a user.

    After `erasure.after` relay removes the user's events from the journal and from parked events. Then each connector
    erases the user at its destination. relay reads external ids, device ids and e-mail addresses from the user's
    events, too. No event tells an alias: name it here.

    Exit codes: 0 requested; 1 not requested.
    """
    others = [OtherId("device_id", one) for one in devices] + [OtherId("email", one) for one in emails]
    try:
        others += map(parse_alias, aliases)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--alias") from None
    user = _read_user(user_id, external_ids, others)
    asked = choose_access(place).ask_erasure(user)
    click.echo(f"erasure {asked.number} asked for; relay erasures show {asked.number} tells how far it is")
    if not asked.runs:
        click.echo("relay does not run: it begins after the next start")


@erasures.command("list")
@_JSON
@add_places
def list_(place: StateOptions, as_json: bool) -> None:
    """List all erasures, the last one first.

    Exit codes: 0 listed; 1 the state folder cannot be read.
    """
    found = choose_access(place).list_receipts()
    if as_json:
        click.echo(json.dumps([*map(_make_entry, found)], indent=2))
        return
    lines = []
    for one in found:
        asker = one.by.type if one.by else one.asked_by or "an admin"
        line = f"erasure {one.number}, asked {format_time(one.asked)} by {asker}: {_format_removed(one)}"
        line += f"; {one.problem}" if one.problem else ""
        line += f"; due {format_time(one.due)}" if one.due else ""
        failed = ", ".join(each.connector for each in one.connectors if each.outcome == "failed")
        lines.append(f"{line}; failed at {failed}" if failed else line)
    click.echo("\n".join(lines) or "no erasure was ever asked for")


@erasures.command
@click.argument("number", type=click.IntRange(1, (1 << 63) - 1))
@_JSON
@add_places
def show(place: StateOptions, number: int, as_json: bool) -> None:
    """Show the receipt of an erasure: what was removed, and each connector's answer.

    Exit codes: 0 shown; 1 no such erasure.
    """
    access = choose_access(place)
    found = next((one for one in access.list_receipts() if one.number == number), None)
    if found is None:
        raise click.ClickException(f"no erasure has the number {number}")
    click.echo(json.dumps(_make_entry(found), indent=2) if as_json else _format_receipt(found, access.name_part))


@erasures.command
@_add_user_options
@_JSON
@add_places
def check(place: StateOptions, user_id: str | None, external_ids: tuple[str, ...], as_json: bool) -> None:
    """Look for a user in the journal, among parked events and in the receipts.

    Reads the whole journal, and names damaged parts. It does not look at what connectors keep: memberships of cohorts,
    and files that were written.

    Exit codes: 0 nothing of the user; 1 something of the user is left, or not everything could be read.
    """
    user = _read_user(user_id, external_ids)
    with show_journal_progress(shown=not as_json) as progress:
        found = choose_access(place).find_remains(user, progress)
    tell_problems(found.problems)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        events = format_count(found.events, "event") if found.events else "no events"
        click.echo(f"{events} in the journal, {found.parked or 'none'} parked")
        click.echo(f"erasures: {', '.join(map(str, found.erasures)) or 'none'}\nnot looked at: {KEPT}")
    raise SystemExit(1 if found.events or found.parked or found.problems else 0)


def _read_user(user_id: str | None, external_ids: Sequence[str], other_ids: Sequence[OtherId] = ()) -> User:
    try:
        return make_user(user_id, external_ids, other_ids)
    except ValueError:
        raise click.UsageError(WHO) from None


def _make_entry(one: Receipt) -> dict[str, Any]:
    plain = _format_times(msgspec.to_builtins(one))
    answers = [each | {"at": format_time(each["at"])} for each in plain["connectors"]]
    workers = [*map(_format_times, plain.pop("workers"))]
    return plain | {"connectors": answers} | ({"workers": workers} if workers else {})


def _format_times(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with their times as text."""
    times = {name: plain[name] for name in ("asked", "due", "compacted", "done") if name in plain}
    return plain | {name: format_time(time) if time else None for name, time in times.items()}


def _format_removed(one: Receipt | WorkerReceipt) -> str:
    its = one.removed
    removed = f"{format_count(its.events, 'event')}, {its.parked + its.unreadable} parked"
    if not one.compacted:
        removed = f"{removed} so far" if any(msgspec.structs.asdict(its).values()) else "nothing removed yet"
    return f"{one.status}; {removed}"


def _format_receipt(one: Receipt, name: Callable[[int], str]) -> str:
    asker = f"{one.by.type}, source {one.by.source}, offset {one.by.offset}" if one.by else one.asked_by or "an admin"
    its = one.removed
    not_yet = "not all yet" if any(msgspec.structs.asdict(its).values()) else "not yet"
    removed = format_time(one.compacted) if one.compacted else not_yet
    ids = f"forgotten {format_time(one.done)}" if one.done else "kept until the connectors have erased the user"
    due = format_time(one.due) if one.due else "as erasure.after says"
    answers = []
    for each in one.connectors:
        reason = f" ({escape_text(each.reason)})" if each.reason else ""
        outcome = f"{each.outcome}{reason}{AFTER.get(each.outcome, '')}"
        answers.append(f"connector  {each.connector}: {outcome}, {format_time(each.at)}")
    lines = [
        f"erasure    {one.number}: {one.status}",
        f"asked      {format_time(one.asked)} by {asker}",
        *([f"due        {due}"] if one.status == "waiting" else []),
        f"removed    {removed}{f': {one.problem}' if one.problem else ''}",
        f"journal    {format_count(its.events, 'event')} removed, {its.changed} that name others as well changed",
        f"parked     {its.parked} removed, {its.unreadable} unreadable ones removed",
        f"attempts   {format_count(its.attempts, 'answer')} removed",
        *(f"{name(part.worker):<10} {_format_removed(part)}" for part in one.workers),
        *([f"beyond     relay cannot remove copies in {one.out_of_reach}"] if one.out_of_reach else []),
        *answers,
        f"ids        {ids}",
        *(f"sha256     {each}" for each in one.digests),
    ]
    return "\n".join(lines)
