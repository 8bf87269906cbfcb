"""`relay cohorts`: what Braze was told of each cohort, and whole memberships from files."""

import csv
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final
from uuid import uuid4

import click
import orjson

from relay_plugins.braze_cohorts.change import ALIAS, EVENT_TYPE
from relay_plugins.braze_cohorts.known import Cohort, databases, members
from relay_plugins.braze_cohorts.known import cohorts as known_cohorts

USERS: Final = 1000
"""Of one event."""
EVENTS: Final = 20
"""Of one request to relay."""
HEADERS: Final = frozenset({"id", "external_id", "user_id", "device_id", "alias", "alias_name"})
"""What a first line is called that is no user."""

state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: os.environ.get("STATE_DIRECTORY", "/var/lib/relay"),
    help="relay's state folder (default: $STATE_DIRECTORY, or /var/lib/relay).",
)
connector_option = click.option("--connector", help="Which braze_cohorts connector, if there are several.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
url_option = click.option("--url", required=True, help="A source of type json of a running relay.")
token_option = click.option("--token-env", default="RELAY_TOKEN", show_default=True, help="Variable with its token.")
match_option = click.option(
    "--match", default="external_id", show_default=True, help="What the ids are: also device_id, alias:LABEL, prefix."
)


@click.group
def cohorts() -> None:
    """Look at the Braze cohorts that relay keeps, and send whole memberships."""


@cohorts.command("list")
@state_option
@connector_option
@json_option
def list_(state: Path, connector: str | None, as_json: bool) -> None:
    """Every cohort: its members as Braze was told, its last change."""
    found = known_cohorts(_database(state, connector))
    if as_json:
        return click.echo(json.dumps([cohort._asdict() for cohort in found], indent=2))
    for cohort in found:
        click.echo(f"{cohort.id}  {cohort.members:,} members  {_moment(cohort.synced)}  {cohort.name}")
    return None


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@state_option
@connector_option
@json_option
def show(cohort_id: str, state: Path, connector: str | None, as_json: bool) -> None:
    """One cohort. Exits with 1 if relay knows none of that id."""
    found = _cohort(_database(state, connector), cohort_id)._asdict()
    if as_json:
        return click.echo(json.dumps(found, indent=2))
    for name, value in found.items():
        click.echo(f"{name:8} {_moment(value) if isinstance(value, float) else value}")
    return None


@cohorts.command("members")
@click.argument("cohort_id", metavar="ID")
@state_option
@connector_option
@json_option
def members_(cohort_id: str, state: Path, connector: str | None, as_json: bool) -> None:
    """Who is in a cohort, as Braze was told: one user a line, each with what the id is."""
    path = _database(state, connector)
    _cohort(path, cohort_id)
    for member in members(path, cohort_id):
        click.echo(json.dumps(member._asdict()) if as_json else f"{member.kind}:{member.id}")


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@click.argument("file", type=click.File("rb"))
@match_option
@state_option
@connector_option
@json_option
def diff(cohort_id: str, file: IO[bytes], match: str, state: Path, connector: str | None, as_json: bool) -> None:
    """What it would change if FILE were the whole membership (see push). Sends nothing."""
    known = {f"{member.kind}:{member.id}" for member in members(_database(state, connector), cohort_id)}
    wanted = {user if match == "prefix" else f"{match}:{user}" for user in _users(file)}
    add, remove = sorted(wanted - known), sorted(known - wanted)
    if as_json:
        return click.echo(json.dumps({"add": add, "remove": remove}, indent=2))
    for sign, users in (("+", add), ("-", remove)):
        for user in users:
            click.echo(f"{sign} {user}")
    return click.echo(f"{len(add):,} to add, {len(remove):,} to remove", err=True)


@cohorts.command
@click.argument("file", type=click.File("rb"))
@click.option("--cohort", "cohort_id", required=True, metavar="ID", help="The cohort's id.")
@click.option("--name", help="Its name in Braze (default: the id).")
@match_option
@url_option
@token_option
@click.pass_context
def push(
    ctx: click.Context, file: IO[bytes], cohort_id: str, name: str | None, match: str, url: str, token_env: str
) -> None:
    """Make the users in FILE (- for standard input) the whole membership of a cohort; whoever else is in it leaves.

    FILE is CSV (the first column; a first line such as `external_id` is a header), or NDJSON: texts, or objects with
    one of these fields. It goes through a running relay, which sends Braze only what has changed.
    """
    users = [*dict.fromkeys(_users(file))]
    if not users:
        raise click.ClickException(f"{file.name} names no user; a membership is not emptied by an empty file")
    _post(ctx, _events(cohort_id, name or cohort_id, _match(match), users, full=True), url, token_env)


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@url_option
@token_option
@state_option
@connector_option
@click.pass_context
def resync(ctx: click.Context, cohort_id: str, url: str, token_env: str, state: Path, connector: str | None) -> None:
    """Send Braze every known member of a cohort once more: users that Braze did not know then, it may know now."""
    path = _database(state, connector)
    cohort = _cohort(path, cohort_id)
    users = [f"{member.kind}:{member.id}" for member in members(path, cohort_id)]
    _post(ctx, _events(cohort_id, cohort.name, "prefix", users, resend=True), url, token_env)


def _events(
    cohort_id: str, name: str, match: object, users: Sequence[str], *, full: bool = False, resend: bool = False
) -> Iterator[bytes]:
    task, parts = str(uuid4()), -(-len(users) // USERS)
    for part in range(parts):
        sync = {"task": task, "page": 1, "pages": 1, "part": part, "parts": parts, "full": full, "resend": resend}
        yield orjson.dumps(
            {
                "event_type": EVENT_TYPE,
                "id": f"push:{task}:{part}",
                "time": int(time.time()),
                "cohort": {"id": cohort_id, "name": name},
                "match": match,
                "add": users[part * USERS : (part + 1) * USERS],
                "remove": [],
                "sync": sync,
            }
        )


def _post(ctx: click.Context, events: Iterable[bytes], url: str, token_env: str) -> None:
    """As `relay send` does."""
    root = ctx.find_root()
    send = root.command.get_command(root, "send") if isinstance(root.command, click.Group) else None
    if send is None:
        raise click.ClickException("relay send is missing: install relay again")
    with TemporaryFile() as file:
        file.writelines(chain.from_iterable((event, b"\n") for event in events))
        file.seek(0)
        ctx.invoke(send, file=file, url=url, token_env=token_env, batch=EVENTS, shape="array")


def _users(file: IO[bytes]) -> Iterator[str]:
    lines = (line for line in TextIOWrapper(file, "utf-8-sig") if line.strip())
    first = next(lines, "")
    if first.lstrip()[:1] in ("{", '"'):
        yield from (_user(line) for line in chain([first], lines))
        return
    cells = (row[0].strip() for row in csv.reader(chain([first], lines)) if row and row[0].strip())
    yield from (cell for number, cell in enumerate(cells) if number or cell.lower() not in HEADERS)


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


def _match(text: str) -> str | dict[str, str]:
    if text.startswith(ALIAS) and len(text) > len(ALIAS):
        return {"alias_label": text.removeprefix(ALIAS)}
    if text in ("external_id", "device_id", "prefix"):
        return text
    raise click.BadParameter(f"{text!r} is not external_id, device_id, alias:LABEL or prefix", param_hint="--match")


def _database(state: Path, connector: str | None) -> Path:
    found = databases(state)
    if connector is None and len(found) == 1:
        return next(iter(found.values()))
    if connector in found:
        return found[connector]
    if not found:
        raise click.ClickException(f"no connector of type braze_cohorts has run with the state folder {state} yet")
    raise click.ClickException(f"name one of the connectors by --connector: {', '.join(found)}")


def _cohort(path: Path, cohort_id: str) -> Cohort:
    for cohort in known_cohorts(path):
        if cohort.id == cohort_id:
            return cohort
    raise click.ClickException(f"relay knows no cohort {cohort_id}; relay cohorts list has them all")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
