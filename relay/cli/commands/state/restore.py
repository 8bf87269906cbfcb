"""`relay restore`: a state folder made of a backup. Of the embedded engine, as `relay backup`."""

import time
from pathlib import Path

import click

from relay.admin import make_restore_entry
from relay.cli.commands.state.backup import FOLDER, describe_backup, show_progress
from relay.cli.format import format_time
from relay.cli.state_options import StateOptions, add_local_places, note_history
from relay.client import find_login
from relay.inspect import restore as make


@click.command
@click.argument("folder", metavar="DIR", type=FOLDER)
@add_local_places
def restore(place: StateOptions, folder: Path) -> None:
    """Make a state folder of the backup in DIR.

    relay must not run, and the folder must have nothing of relay's. After a restore that was broken off, the same
    command removes what it has made and begins anew.

    Events that were delivered since the backup are delivered again. Events that came since are not in it. The journal
    gets a new identity. The machine's clock counts as right.

    Exit codes: 0 restored; 1 nothing to restore, or something is there.
    """
    place.check_embedded("those that have made the backup of the database, such as pg_restore")
    with show_progress(f"{place.state} is not complete; the same relay restore begins anew") as progress:
        found, problems = make(folder, place.state, place.path, progress)
    now = format_time(time.time())
    note_history(place.store, make_restore_entry(folder, found, find_login()))
    for problem in problems:
        click.echo(f"damaged in the backup already: {problem}")
    summary = describe_backup(found, place.state, progress)
    click.echo(f"{summary}\nit is {now} by this machine's clock, which counts as right")
