"""`relay cohorts`: shows what Braze was told of cohorts, and pushes whole memberships from files."""

import json
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any

import click

from relay_plugins.braze_cohorts.cli import cohorts
from relay_plugins.braze_cohorts.cli.files import Form, read_users
from relay_plugins.braze_cohorts.cli.membership import (
    Pushing,
    compare,
    confirm,
    format_count,
    make_events,
    parse_match,
    pushing_options,
    send,
)
from relay_plugins.braze_cohorts.cli.options import (
    connector_option,
    find_cohort,
    form_options,
    json_option,
    open_store,
    state_option,
    token_option,
    url_option,
)
from relay_plugins.braze_cohorts.cli.watch import watch
from relay_plugins.braze_cohorts.queries import read_cohorts, read_members, read_unfinished


@cohorts.command("list")
@state_option
@connector_option
@json_option
def list_(state: Path, connector: str | None, as_json: bool) -> None:
    """List every cohort: members as Braze was told, and its last change.

    Exit codes: 0 listed.
    """
    with open_store(state, connector) as store:
        found = read_cohorts(store)
    if as_json:
        return click.echo(json.dumps([one._asdict() for one in found], indent=2))
    width = max((len(one.id) for one in found), default=0)
    click.echo(f"{'cohort':{width}}  {'members':>11}  {'last change':20}  name")
    for one in found:
        errors = f"  ({one.errors:,} entries refused, see show)" if one.errors else ""
        errors += f"  ({one.left_out:,} ids left out, see show)" if one.left_out else ""
        click.echo(f"{one.id:{width}}  {one.members:11,}  {_format_time(one.synced):20}  {one.name}{errors}")
    return None


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@state_option
@connector_option
@json_option
def show(cohort_id: str, state: Path, connector: str | None, as_json: bool) -> None:
    """Show one cohort, and whether a whole membership is still on its way.

    Exit codes: 0 shown; 1 relay knows no such cohort.
    """
    with open_store(state, connector) as store:
        found, coming = find_cohort(store, cohort_id)._asdict(), read_unfinished(store, cohort_id)
    if as_json:
        parts = dict(zip(("came", "of"), coming, strict=True)) if coming else None
        return click.echo(json.dumps(found | {"coming": parts}, indent=2))
    if not found["task"]:  # Braze has the name of the cohort, and no change yet
        found["synced"] = "not yet"
    if coming:
        found["coming"] = (
            f"{coming[0]:,} of {coming[1]:,} parts of a whole membership; who leaves, leaves with the last"
        )
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' '):10} {_format_time(value) if isinstance(value, float) else value}")
    return None


@cohorts.command("members")
@click.argument("cohort_id", metavar="ID")
@state_option
@connector_option
@json_option
def members_(cohort_id: str, state: Path, connector: str | None, as_json: bool) -> None:
    """List the members of a cohort as Braze was told, one user per line.

    Each line names the kind of id.

    Exit codes: 0 listed; 1 relay knows no such cohort.
    """
    with open_store(state, connector) as store:
        find_cohort(store, cohort_id)
        members = read_members(store, cohort_id)
    for member in members:
        click.echo(json.dumps(member._asdict()) if as_json else f"{member.kind}:{member.id}")


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@click.argument("file", type=click.File("rb"))
@click.option("--summary", is_flag=True, help="Print only how many.")
@form_options
@state_option
@connector_option
@json_option
def diff(
    cohort_id: str, file: IO[bytes], summary: bool, state: Path, connector: str | None, as_json: bool, **form: Any
) -> None:
    """Show what a push of FILE would change in a cohort. Sends nothing.

    The first line says how many users come and leave.

    Exit codes: 0 shown; 1 FILE names no user, or cannot be read.
    """
    parse_match(form["match"])
    users = read_users(file, Form(**form))
    with open_store(state, connector) as store:
        effect = compare(store, cohort_id, users, form["match"])
    signed = {"add": ("+", effect.add), "remove": ("-", effect.remove)}
    named = {key: (sign, [f"{one.kind}:{one.id}" for one in some]) for key, (sign, some) in signed.items()}
    if as_json:
        count = {key: len(some) if summary else some for key, (_, some) in named.items()}
        return click.echo(json.dumps(count, indent=2))
    click.echo(str(effect))
    for sign, some in () if summary else named.values():
        for user in some:
            click.echo(f"{sign} {user}")
    return None


@cohorts.command
@click.argument("file", type=click.File("rb"))
@click.option("--cohort", "cohort_id", required=True, metavar="ID", help="Its id.")
@click.option("--name", help="Its name in Braze (default: the one it has, or the id).")
@pushing_options
def push(file: IO[bytes], cohort_id: str, name: str | None, pushing: Pushing) -> None:
    """Make the users in FILE (- for standard input) the whole membership of a cohort.

    Users who are not in FILE leave the cohort. FILE is CSV with commas, semicolons or tabs: the column `external_id`,
    or the only column. Or FILE is NDJSON: texts, or objects with such a field. Ids that look like a mistake are
    refused, and the command says which option takes them.

    The command asks if more than half of the known members would leave. It refuses if the state folder knows no
    connector to compare with. --yes pushes in both cases. The push goes through a running relay, which sends Braze only
    what has changed. To remove everybody: relay cohorts empty.

    Exit codes: 0 pushed; 1 refused, not confirmed, or FILE names no user.
    """
    if not cohort_id.strip():
        raise click.BadParameter("a cohort's id is not empty", param_hint="'--cohort'")
    users = read_users(file, pushing.form)
    effect = pushing.compare(cohort_id, users)
    summary = f"{cohort_id}: {format_count(len(users), 'user')}, {effect or 'compared with nothing'}"
    if effect and effect.is_drastic and not pushing.drastic:
        confirm(f"{summary}\nMore than half of the members would leave. Push all the same?")
    pushing.send(cohort_id, name or "", users)
    click.echo(summary)


@cohorts.command
@click.argument("cohort_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@url_option
@token_option
@state_option
@connector_option
@click.pass_context
def empty(
    ctx: click.Context, cohort_id: str, yes: bool, url: str, token_env: str, state: Path, connector: str | None
) -> None:
    """Remove every member of a cohort; the empty cohort stays in Braze.

    Exit codes: 0 sent to relay; 1 refused, not confirmed, or relay knows no such cohort.
    """
    with open_store(state, connector) as store:
        known = find_cohort(store, cohort_id)
    if not yes:
        confirm(f"Remove all {format_count(known.members, 'member')} of {cohort_id}?")
    send(ctx, make_events(cohort_id, "", "external_id", (), full=True), url, token_env)
    click.echo(f"{cohort_id}: everybody leaves")


@cohorts.command
@click.argument("cohort_id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="Every cohort that relay knows.")
@url_option
@token_option
@state_option
@connector_option
@click.pass_context
def resync(
    ctx: click.Context,
    cohort_id: str | None,
    every: bool,
    url: str,
    token_env: str,
    state: Path,
    connector: str | None,
) -> None:
    """Send Braze the name and every known member of a cohort once more.

    Say ID or --all. Use it for users that Braze did not know at the time, or after a change to another Braze.

    Exit codes: 0 sent to relay; 1 refused, or relay knows no such cohort.
    """
    if (cohort_id is None) != every:
        raise click.UsageError("say either ID or --all")
    with open_store(state, connector) as store:
        ids = [one.id for one in read_cohorts(store)] if cohort_id is None else [find_cohort(store, cohort_id).id]
    if not ids:
        raise click.ClickException("relay knows no cohort yet")
    send(ctx, chain.from_iterable(make_events(one, "", "external_id", (), resend=True) for one in ids), url, token_env)
    for one in ids:
        click.echo(f"{one}: every member is sent once more")


cohorts.add_command(watch)


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
