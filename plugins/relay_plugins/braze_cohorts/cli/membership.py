"""Whole memberships: compared with what Braze was told, turned into events, handed to a running relay."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple
from uuid import uuid4

import click
import orjson

from relay_plugins.braze_cohorts.change import ALIAS, EVENT_TYPE, Member, member_of
from relay_plugins.braze_cohorts.cli.files import Form
from relay_plugins.braze_cohorts.cli.options import (
    NotFound,
    connector_option,
    database,
    form_options,
    state_option,
    token_option,
    url_option,
    yes_option,
)
from relay_plugins.braze_cohorts.queries import members

USERS: Final = 1000
"""Of one event."""
EVENTS: Final = 20
"""Of one request to relay."""


def match_of(text: str) -> str | dict[str, str]:
    """What the ids are, as events say it. Raises BadParameter."""
    if text.startswith(ALIAS) and len(text) > len(ALIAS):
        return {"alias_label": text.removeprefix(ALIAS)}
    if text in ("external_id", "device_id", "email", "prefix"):
        return text
    raise click.BadParameter(
        f"{text!r} is not external_id, device_id, email, alias:LABEL or prefix", param_hint="--match"
    )


def events_of(
    cohort: str,
    name: str,
    match: str | dict[str, str],
    users: Sequence[str],
    *,
    full: bool = False,
    resend: bool = False,
) -> Iterator[bytes]:
    """The users as changes of a cohort; `full` and `resend` as in `Change`."""
    task, parts = str(uuid4()), max(1, -(-len(users) // USERS))
    for part in range(parts):
        sync = {"task": task, "page": 1, "pages": 1, "part": part, "parts": parts, "full": full, "resend": resend}
        change = {
            "event_type": EVENT_TYPE,
            "id": f"push:{task}:{part}",
            "time": int(time.time()),
            "cohort": {"id": cohort, "name": name},
            "match": match,
            "add": users[part * USERS : (part + 1) * USERS],
            "remove": [],
            "sync": sync,
        }
        yield orjson.dumps(change)


def send(ctx: click.Context, events: Iterable[bytes], url: str, token_env: str) -> None:
    """As `relay send` does. Raises ClickException if they are refused."""
    root = ctx.find_root()
    command = root.command.get_command(root, "send") if isinstance(root.command, click.Group) else None
    if command is None:
        raise click.ClickException("relay send is missing: install relay again")
    with TemporaryFile() as file:
        file.writelines(chain.from_iterable((event, b"\n") for event in events))
        file.seek(0)
        try:
            ctx.invoke(command, file=file, url=url, token_env=token_env, batch=EVENTS, shape="array", quiet=True)
        except click.ClickException as error:
            if "Heap-Hash" not in error.message:
                raise
            reason = f"{url} is a source of type heap_segments; name one of type json"
            raise click.ClickException(reason) from None


def counted(number: int, noun: str) -> str:
    """So many of them: "1 user", "1,200 users"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Effect(NamedTuple):
    """Who would come and go, and how many are in it now."""

    add: list[Member]
    remove: list[Member]
    known: int

    def __str__(self) -> str:
        return f"+{len(self.add):,} -{len(self.remove):,} of {counted(self.known, 'member')}"

    @property
    def is_drastic(self) -> bool:
        """Whether more than half of the members would leave."""
        return 2 * len(self.remove) > self.known


def effect_of(path: Path, cohort: str, users: Iterable[str], match: str) -> Effect:
    """Compare with what is in the database of a connector. Raises sqlite3.Error."""
    known = {*members(path, cohort)}
    wanted = {member_of(user, match) for user in users}
    return Effect(sorted(wanted - known), sorted(known - wanted), len(known))


class Pushing(NamedTuple):
    """How files are pushed."""

    ctx: click.Context
    form: Form
    state: Path
    connector: str | None
    drastic: bool
    """Even if more than half of the known members would leave."""
    url: str
    token_env: str

    def effect(self, cohort_id: str, users: Sequence[str]) -> Effect | None:
        """What it would change of the members that the state folder knows; None if nobody can tell, and need not.

        Raises ClickException, `NotFound` if there is no database."""
        try:
            return effect_of(database(self.state, self.connector), cohort_id, users, self.form.match)
        except NotFound as error:
            if self.drastic:
                return None
            raise NotFound(f"{error.message}. Or push without a comparison by --yes") from None
        except sqlite3.Error as error:
            raise click.ClickException(f"who is in the cohort cannot be read from {self.state}: {error}") from None

    def send(self, cohort_id: str, name: str, users: Sequence[str]) -> None:
        """Make these users the whole membership of a cohort. Raises ClickException."""
        events = events_of(cohort_id, name, match_of(self.form.match), users, full=True)
        send(self.ctx, events, self.url, self.token_env)


def confirmed(question: str) -> None:
    """Return if an admin says yes. Raises Abort, and ClickException where there is nobody to say anything."""
    try:
        answer = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException("not confirmed: nobody answers; --yes does it without asking") from None
    if not answer:
        raise click.Abort


def pushing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options, and hand on what they say as `pushing`."""

    @form_options
    @yes_option
    @url_option
    @token_option
    @state_option
    @connector_option
    @click.pass_context
    @wraps(command)
    def wrapped(
        ctx: click.Context,
        /,
        *,
        match: str,
        column: str | None,
        header: bool | None,
        as_is: bool,
        yes: bool,
        url: str,
        token_env: str,
        state: Path,
        connector: str | None,
        **options: Any,
    ) -> None:
        match_of(match)
        form = Form(match, column, header, as_is)
        command(pushing=Pushing(ctx, form, state, connector, yes, url, token_env), **options)

    return wrapped
