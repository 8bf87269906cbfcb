"""`relay history`: what happened, when, and by whom."""

import json

import click
from msgspec.structs import asdict

from relay.cli.access import choose_access
from relay.cli.format import format_time
from relay.cli.options import moment_option, utf8
from relay.cli.state_options import StateOptions, add_places
from relay.kinds import KINDS
from relay.store import HistoryQuery
from relay.words import escape_text


@click.command
@click.argument("subject", metavar="[NAME]", type=utf8, required=False)
@moment_option("--since", "Only what happened since then.")
@click.option("--kind", type=click.Choice([*KINDS]), metavar="KIND", help="Only of this kind, such as failing.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="Only the last N entries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@add_places
def history(
    place: StateOptions, subject: str | None, since: float | None, kind: str | None, limit: int | None, as_json: bool
) -> None:
    """Show what happened, when, and by whom.

    The newest entry comes last. With a journal in PostgreSQL, each entry says which node wrote it. NAME is a connector,
    a source, journal, relay, or a subject such as "worker 1". Works whether relay runs or not.

    Exit codes: 0 shown; 1 no relay has run with that state folder.
    """
    query = HistoryQuery(since=since, kind=kind, subject=subject, limit=limit or -1)
    found = choose_access(place).read_history(query)
    if as_json:
        click.echo(json.dumps([asdict(one) | {"at": format_time(one.at)} for one in found], indent=2))
    else:
        lines = []
        for one in found:
            told = [f"by {one.by}" if one.by else "", f"at node {node}" if (node := one.about.get("node")) else ""]
            whose = f" ({', '.join(filter(None, told))})" if any(told) else ""
            lines.append(escape_text(f"{format_time(one.at)}  {one.kind:<17}  {one.sentence}{whose}"))
        click.echo("\n".join(lines) or "nothing of that is in the history")
