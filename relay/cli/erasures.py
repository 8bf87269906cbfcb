"""`relay erasures`: have a user's events removed, and the receipts."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from relay.api import User
from relay.cli.options import state_option
from relay.cli.place import Place, places, told
from relay.cli.words import moment
from relay.journal import Which, look_at_parked
from relay.journal.erasures import COUNTS, Answer, Erasure, ask_erasure, digest
from relay.journal.erasures import erasures as all_erasures
from relay.journal.inspect import all_segments, blocks
from relay.journal.lock import is_locked
from relay.journal.naming import Erased, Wanted
from relay.words import counted

WHO: Final = "say who: --user-id ID, --external-id ID"
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _user(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a user."""
    external = click.option("--external-id", "external_ids", metavar="ID", multiple=True, help="Yours; repeatable.")
    return click.option("--user-id", metavar="ID", help="Braze's id.")(external(command))


@click.group
def erasures() -> None:
    """Have all events of a user removed, and look at the receipts of that."""


@erasures.command
@_user
@state_option
def request(state: Path, user_id: str | None, external_ids: tuple[str, ...]) -> None:
    """Have all events of a user removed, and the connectors told, once `erasure.after` has passed.

    What else the user is called is read from their events.
    """
    user = _named(user_id, external_ids)
    with told():
        number = ask_erasure(state, user)
        click.echo(f"erasure {number} asked for; relay erasures show {number} tells how far it is")
        if not is_locked(state):
            click.echo("relay does not run with this state folder: it begins after the next start")


@erasures.command("list")
@_JSON
@state_option
def list_(state: Path, as_json: bool) -> None:
    """List all erasures, the last one first."""
    with told():
        found = all_erasures(state)
    if as_json:
        click.echo(json.dumps([*map(_plain, found)], indent=2))
    else:
        click.echo("\n".join(map(_line, found)) or "no erasure was ever asked for")


@erasures.command
@click.argument("number", type=click.IntRange(1, (1 << 63) - 1))
@_JSON
@state_option
def show(state: Path, number: int, as_json: bool) -> None:
    """Show the receipt of an erasure: what was removed where, and what the connectors have answered."""
    with told():
        found = next((one for one in all_erasures(state) if one.number == number), None)
    if found is None:
        raise click.ClickException(f"no erasure has the number {number}")
    click.echo(json.dumps(_plain(found), indent=2) if as_json else _receipt(found))


@erasures.command
@_user
@_JSON
@places
def check(place: Place, user_id: str | None, external_ids: tuple[str, ...], as_json: bool) -> None:
    """Look for a user in the journal and among parked events, and for receipts that have their ids' digests.

    Exits with 1 if there is still anything of the user's.
    """
    user = _named(user_id, external_ids)
    ids = {*external_ids, *filter(None, [user_id])}
    receipts = [one.number for one in all_erasures(place.state) if {*map(digest, ids)} & {*one.digests}]
    events, parked = _events(place, user), _parked(place, user)
    if as_json:
        click.echo(json.dumps({"events": events, "parked": parked, "erasures": receipts}, indent=2))
    else:
        click.echo(f"{counted(events, 'event') if events else 'no events'} in the journal, {parked or 'none'} parked")
        click.echo(f"erasures: {', '.join(map(str, receipts)) or 'none'}")
    raise SystemExit(1 if events or parked else 0)


def _named(user_id: str | None, external_ids: Sequence[str]) -> User:
    if not user_id and not any(external_ids):
        raise click.UsageError(WHO)
    return User(user_id or None, tuple(filter(None, external_ids)))


def _events(place: Place, user: User) -> int:
    """Events in the journal that are the user's, or name them."""
    wanted, found = Wanted({1: user}), 0
    for listed in all_segments(place.state, place.path).values():
        for _, block in blocks(listed):
            erased = Erased(block, wanted)
            found += len(erased.gone) + len(erased.changed)
    return found


def _parked(place: Place, user: User) -> int:
    wanted, found = Wanted({1: user}), 0
    with suppress(FileNotFoundError):
        for one in look_at_parked(place.state, Which()):
            text = one.body.decode(errors="replace") if one.connector is None else ""
            found += bool(wanted.whose(one.body) or wanted.by_key(one.key) or wanted.named_in(text))
    return found


def _plain(one: Erasure) -> dict[str, Any]:
    """All but the ids."""
    asker = {"type": one.type, "source": one.source, "offset": one.offset} if one.type else None
    return {
        "number": one.number,
        "status": one.status,
        "asked": moment(one.asked),
        "by": asker,
        "digests": [*one.digests],
        "compacted": moment(one.compacted) if one.compacted else None,
        "problem": one.problem,
        "removed": {name: getattr(one, name) for name in COUNTS},
        "connectors": [asdict(each) | {"at": moment(each.at)} for each in one.answers],
        "done": moment(one.done) if one.done else None,
    } | ({"workers": [{"worker": worker} | _part(part) for worker, part in one.workers.items()]} if one.workers else {})


def _part(one: Erasure) -> dict[str, Any]:
    """What one of several workers has done."""
    whole = _plain(one)
    return {name: whole[name] for name in ("status", "compacted", "problem", "removed", "done")}


def _line(one: Erasure) -> str:
    return f"erasure {one.number}, asked {moment(one.asked)} by {one.type or 'an admin'}: {_removed(one)}"


def _removed(one: Erasure) -> str:
    removed = (
        f"{counted(one.events, 'event')}, {one.parked + one.unreadable} parked"
        if one.compacted
        else "nothing removed yet"
    )
    return f"{one.status}; {removed}{f'; {one.problem}' if one.problem else ''}"


def _receipt(one: Erasure) -> str:
    asker = f"{one.type}, source {one.source}, offset {one.offset}" if one.type else "an admin"
    removed = moment(one.compacted) if one.compacted else "not yet"
    ids = f"forgotten {moment(one.done)}" if one.done else "kept until the connectors have erased the user"
    lines = [
        f"erasure    {one.number}: {one.status}",
        f"asked      {moment(one.asked)} by {asker}",
        f"removed    {removed}{f': {one.problem}' if one.problem else ''}",
        f"journal    {counted(one.events, 'event')} removed, {one.changed} that name others as well changed",
        f"parked     {one.parked} removed, {one.unreadable} unreadable ones removed",
        f"attempts   {counted(one.attempts, 'answer')} removed",
        *(f"worker {worker:<4}{_removed(part)}" for worker, part in one.workers.items()),
        *(f"connector  {each.connector}: {_answer(each)}, {moment(each.at)}" for each in one.answers),
        f"ids        {ids}",
        *(f"sha256     {each}" for each in one.digests),
    ]
    return "\n".join(lines)


def _answer(each: Answer) -> str:
    reason = f" ({each.reason})" if each.reason else ""
    again = ", will be tried again" if each.outcome == "failed" else ""
    return f"{each.outcome}{reason}{again}"
