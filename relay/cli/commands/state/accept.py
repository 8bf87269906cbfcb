"""`relay accept`: say that the journal, or the clock, is as it has to be."""

import time
from typing import Literal

import click

from relay.admin import make_accept_entry
from relay.cli.format import format_time
from relay.cli.state_options import StateOptions, add_local_places, note_history
from relay.client import find_login


@click.command
@click.argument("what", type=click.Choice(["clock", "journal"]))
@click.option("--yes", is_flag=True, help="Do not ask.")
@add_local_places
def accept(place: StateOptions, what: Literal["clock", "journal"], yes: bool) -> None:
    """Confirm that the clock is right, or that the journal may stay.

    clock: the clock has jumped ahead and is right. Events, parked events and ids age by the clock again. A machine that
    was off for more than a day looks like a clock that is ahead.

    journal: relay no longer warns of what was lost or damaged. If the journal is gone, relay makes an empty one, and
    connectors go on with new events. If the journal is not the one that relay.db knows, every connector gets all of its
    events.

    Exit codes: 0 accepted; 1 not confirmed, relay runs with another journal (stop relay first), or the relay.db that
    has to note it is missing (start relay first).
    """
    doubts = place.store.doubts
    place.store.check_complete()
    found = [one.said for one in doubts.find() if one.what == what]
    if what == "clock":
        found.append(f"it is {format_time(time.time())} by this machine's clock")
    elif not found:
        click.echo("nothing is wrong with the journal")
        return
    click.echo("\n".join([*found, doubts.describe_accepting(what)]))
    if not yes:
        click.confirm(f"Accept the {what}?", abort=True)
    done = doubts.accept(what)
    note_history(place.store, make_accept_entry(what, found, find_login()))
    click.echo("\n".join([f"the {what} is accepted", *done]))
