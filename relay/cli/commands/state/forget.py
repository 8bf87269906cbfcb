"""`relay forget`: let go of a connector that is gone for good."""

import click

from relay.cli.access import choose_access
from relay.cli.options import utf8
from relay.cli.state_options import StateOptions, add_places
from relay.store import ParkedQuery
from relay.words import format_count


@click.command
@click.argument("connector", type=utf8)
@click.option("--yes", is_flag=True, help="Do not ask.")
@add_places
def forget(place: StateOptions, connector: str, yes: bool) -> None:
    """Remove what relay keeps of a connector that is not configured any more.

    The command removes the position, the counts, the pending and parked events, failed erasures, and the store of the
    connector: of a braze_cohorts connector, whom Braze has in its cohorts. The receipts of these erasures then say
    `forgotten`. A connector that is added again under this name begins like a new connector. Files that the connector
    wrote stay. Asks first.

    Exit codes: 0 forgotten; 1 nothing is kept of the connector, it is still configured, or not confirmed.
    """
    access = choose_access(place)
    configured, removed, failing = access.find_removed()
    if connector in configured:
        at = f" at node {', '.join(nodes)}" if (nodes := configured[connector]) else ""
        raise click.ClickException(f"the connector {connector} is still configured{at}: remove its table first")
    if connector not in removed:
        known = ", ".join(sorted(removed)) or "none"
        raise click.ClickException(f"relay keeps nothing of a connector {connector}; removed connectors: {known}")
    parked = access.count_parked(ParkedQuery(connector=connector))
    failed = sum(one.erasures for one in failing if one.connector == connector)
    erasures = f", {format_count(failed, 'erasure')} that failed there" if failed else ""
    kept = removed[connector]
    newer = f"{kept.later:,} newer, " if kept.later else ""
    what = f"{newer}{kept.pending:,} pending and {parked:,} parked events of {connector}{erasures}"
    if not yes:
        click.confirm(f"{what} are lost with its position. Forget it?", abort=True)
    access.forget(connector)
    click.echo(f"{connector} is forgotten, with {what}")
