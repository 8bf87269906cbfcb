"""Whole memberships: read from files, turned into events, handed to a running relay."""

import csv
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from itertools import chain
from tempfile import TemporaryFile
from typing import IO, Any, Final
from uuid import uuid4

import click
import orjson

from relay_plugins.braze_cohorts.change import ALIAS, EVENT_TYPE, member_of

USERS: Final = 1000
"""Of one event."""
EVENTS: Final = 20
"""Of one request to relay."""
HEADERS: Final = frozenset({"id", "external_id", "user_id", "device_id", "alias", "alias_name", "identity"})
"""What a first line is called that is no user."""


def users_in(file: IO[bytes], match: str) -> list[str]:
    """The users that a file names, each once. Raises ClickException if it cannot be read, or names nobody."""
    try:
        users = [*dict.fromkeys(_users(file))]
        for user in users:
            member_of(user, match)
    except UnicodeDecodeError:
        raise click.ClickException(f"{file.name} is not UTF-8") from None
    except (csv.Error, ValueError) as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    if not users:
        raise click.ClickException(f"{file.name} names no user; a membership is not emptied by an empty file")
    return users


def match_of(text: str) -> str | dict[str, str]:
    """What the ids are, as events say it. Raises BadParameter."""
    if text.startswith(ALIAS) and len(text) > len(ALIAS):
        return {"alias_label": text.removeprefix(ALIAS)}
    if text in ("external_id", "device_id", "prefix"):
        return text
    raise click.BadParameter(f"{text!r} is not external_id, device_id, alias:LABEL or prefix", param_hint="--match")


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
        ctx.invoke(command, file=file, url=url, token_env=token_env, batch=EVENTS, shape="array")


def _users(file: IO[bytes]) -> Iterator[str]:
    """One by one: NDJSON if the first line is an object or a text, else CSV."""
    lines = (line for line in TextIOWrapper(file, "utf-8-sig") if line.strip())
    first = next(lines, "")
    every = chain([first], lines)
    users = map(_user, every) if _is_json(first) else _cells(every)
    yield from (user for number, user in enumerate(users) if number or user.lower() not in HEADERS)


def _is_json(line: str) -> bool:
    """A CSV line may begin with a quote as well."""
    try:
        return line.lstrip()[:1] == "{" or isinstance(json.loads(line), str)
    except ValueError:
        return False


def _cells(lines: Iterable[str]) -> Iterator[str]:
    return (row[0].strip() for row in csv.reader(lines) if row and row[0].strip())


def _user(line: str) -> str:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise click.ClickException(f"{line.strip()[:80]!r} is not JSON: {error}") from None
    if isinstance(value, dict):
        value = next((value[name] for name in value if name in HEADERS), None)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise click.ClickException(f"{line.strip()[:80]!r} has none of the fields {', '.join(sorted(HEADERS))}")
    return str(value)
