"""`relay forget`: let go of a connector that is gone for good."""

from collections.abc import Sequence
from urllib.parse import quote

import click
import msgspec

from relay import state
from relay.admin import forget_entry
from relay.cli.backend import desk_of
from relay.cli.client import Client, login, running
from relay.cli.options import utf8
from relay.cli.state_options import StateOptions, note, places
from relay.state import FailingErasures, Which, find_failing_erasures
from relay.status import Status
from relay.words import counted


@click.command
@click.argument("connector", type=utf8)
@click.option("--yes", is_flag=True, help="Do not ask.")
@places
def forget(place: StateOptions, connector: str, yes: bool) -> None:
    """Remove what relay keeps of a connector that is gone.

    The connector is not configured any more. relay keeps its position, its counts, the events that are pending or
    parked for it, and erasures that failed there. The receipts then say `forgotten`. Added again, the connector begins
    like a new one. What the connector wrote stays: files, and cohorts/CONNECTOR.db in the state folder. Asks first.

    Exit codes: 0 forgotten; 1 nothing is kept of it, it is still configured, or not confirmed.
    """
    client = running(place.state)
    gone, failing = _gone(place, client)
    if connector not in gone:
        known = ", ".join(sorted(gone)) or "none"
        raise click.ClickException(
            f"nothing is kept of a connector {connector} that is not configured; only of: {known}"
        )
    parked = desk_of(place.state).count_parked(Which(connector=connector))
    what = f"{gone[connector]:,} pending and {parked:,} parked events of {connector}{_erasures(failing, connector)}"
    if not yes:
        click.confirm(f"{what} are lost with its position. Forget it?", abort=True)
    if client is None:
        note(place.state, forget_entry(state.forget_connector(place.state, connector), login()))
    else:
        client.ask("POST", f"/lanes/{quote(connector, safe='')}/forget")
    click.echo(f"{connector} is forgotten, with {what}")


def _erasures(failing: Sequence[FailingErasures], connector: str) -> str:
    failed = sum(one.erasures for one in failing if one.connector == connector)
    return f", {counted(failed, 'erasure')} that failed there" if failed else ""


def _gone(place: StateOptions, client: Client | None) -> tuple[dict[str, int], Sequence[FailingErasures]]:
    """The connectors that have run but are not configured, with what is pending for each; and where erasures fail."""
    if client is not None:
        seen = msgspec.json.decode(client.read("GET", "/status"), type=Status)
        return {one.connector: one.pending for one in seen.gone}, seen.failing_erasures
    if place.config is None:
        raise click.ClickException("the configuration cannot be read, so nobody knows if it is configured: relay check")
    configured = place.config.connectors
    gone = {name: books.pending for name, books in state.read_ledger(place.state).items() if name not in configured}
    return gone, find_failing_erasures(place.state)
