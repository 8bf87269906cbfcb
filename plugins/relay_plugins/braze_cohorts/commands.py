"""`relay cohorts`: what Braze was told of each cohort, and whole memberships from files."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click

from relay_plugins.braze_cohorts.change import member_of
from relay_plugins.braze_cohorts.known import Cohort, databases, members
from relay_plugins.braze_cohorts.known import cohorts as known_cohorts
from relay_plugins.braze_cohorts.membership import events_of, match_of, send, users_in
from relay_plugins.braze_cohorts.watch import watch

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
        errors = f"  ({cohort.errors:,} entries refused, see show)" if cohort.errors else ""
        click.echo(f"{cohort.id}  {cohort.members:,} members  {_moment(cohort.synced)}  {cohort.name}{errors}")
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
        click.echo(f"{name:10} {_moment(value) if isinstance(value, float) else value}")
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
    match_of(match)
    known = {*members(_database(state, connector), cohort_id)}
    wanted = {member_of(user, match) for user in users_in(file, match)}
    add, remove = (
        [f"{member.kind}:{member.id}" for member in sorted(some)] for some in (wanted - known, known - wanted)
    )
    if as_json:
        return click.echo(json.dumps({"add": add, "remove": remove}, indent=2))
    for sign, users in (("+", add), ("-", remove)):
        for user in users:
            click.echo(f"{sign} {user}")
    return click.echo(f"{len(add):,} to add, {len(remove):,} to remove", err=True)


@cohorts.command
@click.argument("file", type=click.File("rb"))
@click.option("--cohort", "cohort_id", required=True, metavar="ID", help="The cohort's id.")
@click.option("--name", help="Its name in Braze (default: the one it has, or the id).")
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
    events = events_of(cohort_id, name or "", match_of(match), users_in(file, match), full=True)
    send(ctx, events, url, token_env)


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@url_option
@token_option
@state_option
@connector_option
@click.pass_context
def resync(ctx: click.Context, cohort_id: str, url: str, token_env: str, state: Path, connector: str | None) -> None:
    """Send Braze every known member of a cohort once more: users that Braze did not know then, it may know now."""
    _cohort(_database(state, connector), cohort_id)
    send(ctx, events_of(cohort_id, "", "external_id", (), resend=True), url, token_env)


cohorts.add_command(watch)


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
