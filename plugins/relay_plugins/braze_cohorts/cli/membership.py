"""Whole memberships: turned into events, handed to a running relay."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from tempfile import TemporaryFile
from typing import Final
from uuid import uuid4

import click
import orjson

from relay_plugins.braze_cohorts.change import ALIAS, EVENT_TYPE

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
