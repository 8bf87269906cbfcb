"""Compares whole memberships with what Braze was told, and sends them as events to a running relay."""

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

from relay.api import StoreError, StoreReader
from relay_plugins.braze_cohorts.change import ALIAS, EVENT_TYPE, Member, read_member
from relay_plugins.braze_cohorts.cli.files import Form
from relay_plugins.braze_cohorts.cli.options import (
    NotFound,
    connector_option,
    form_options,
    open_store,
    state_option,
    token_option,
    url_option,
    yes_option,
)
from relay_plugins.braze_cohorts.queries import read_members

USERS: Final = 1000
"""Most users of one event."""
EVENTS: Final = 20
"""Most events of one request to relay."""


def parse_match(text: str) -> str | dict[str, str]:
    """Return the field `match` of events for the option --match. Raises BadParameter."""
    if text.startswith(ALIAS) and len(text) > len(ALIAS):
        return {"alias_label": text.removeprefix(ALIAS)}
    if text in ("external_id", "device_id", "email", "prefix"):
        return text
    raise click.BadParameter(
        f"{text!r} is not external_id, device_id, email, alias:LABEL or prefix", param_hint="--match"
    )


def make_events(
    cohort: str,
    name: str,
    match: str | dict[str, str],
    users: Sequence[str],
    *,
    full: bool = False,
    resend: bool = False,
) -> Iterator[bytes]:
    """Yield the users as changes of a cohort; `full` and `resend` as in `Change`."""
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
    """Send events with `relay send`. Raises ClickException if relay refuses them."""
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


def format_count(number: int, noun: str) -> str:
    """Return a number and its noun: "1 user", "1,200 users"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Effect(NamedTuple):
    """What a push changes in a cohort."""

    add: list[Member]
    remove: list[Member]
    known: int
    """Number of members before the push."""

    def __str__(self) -> str:
        return f"+{len(self.add):,} -{len(self.remove):,} of {format_count(self.known, 'member')}"

    @property
    def is_drastic(self) -> bool:
        """Whether more than half of the members would leave."""
        return 2 * len(self.remove) > self.known


def compare(store: StoreReader, cohort: str, users: Iterable[str], match: str) -> Effect:
    """Compare users with the members in the store of a connector. Raises StoreError."""
    known = {*read_members(store, cohort)}
    wanted = {read_member(user, match) for user in users}
    return Effect(sorted(wanted - known), sorted(known - wanted), len(known))


class Pushing(NamedTuple):
    """The options of a push."""

    ctx: click.Context
    form: Form
    state: Path
    connector: str | None
    drastic: bool
    """Whether to push even if more than half of the known members would leave."""
    url: str
    token_env: str

    def compare(self, cohort_id: str, users: Sequence[str]) -> Effect | None:
        """Compare users with the members in the state folder; return None without a store if the push is `drastic`.

        Raises ClickException, `NotFound` if there is no store.
        """
        try:
            with open_store(self.state, self.connector) as store:
                return compare(store, cohort_id, users, self.form.match)
        except NotFound as error:
            if self.drastic:
                return None
            raise NotFound(f"{error.message}. Or push without a comparison by --yes") from None
        except StoreError as error:
            raise click.ClickException(f"who is in the cohort cannot be read from {self.state}: {error}") from None

    def send(self, cohort_id: str, name: str, users: Sequence[str]) -> None:
        """Make these users the whole membership of a cohort. Raises ClickException."""
        events = make_events(cohort_id, name, parse_match(self.form.match), users, full=True)
        send(self.ctx, events, self.url, self.token_env)


def confirm(question: str) -> None:
    """Ask a question. Raises Abort unless the answer is yes, ClickException if nobody can answer."""
    try:
        answer = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException("not confirmed: nobody answers; --yes does it without asking") from None
    if not answer:
        raise click.Abort


def pushing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a push; the command gets their values as `pushing`."""

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
        parse_match(match)
        form = Form(match, column, header, as_is)
        command(pushing=Pushing(ctx, form, state, connector, yes, url, token_env), **options)

    return wrapped
