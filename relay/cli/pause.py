"""`relay pause`: have a connector hold its events."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import click

from relay import journal
from relay.cli.client import running
from relay.cli.options import state_option, utf8
from relay.cli.place import told
from relay.journal.books import lanes


@click.command
@click.argument("connector", type=utf8)
@state_option
def pause(state: Path, connector: str) -> None:
    """Have a connector hold its events: they stay in the journal, and senders notice nothing.

    What is on its way still ends. It lasts, over restarts, until relay resume. Exits with 1 if there is no such
    connector.
    """
    changed = change(state, connector, "pause")["changed"]
    click.echo(
        f"{connector} is paused; relay resume {connector} ends it" if changed else f"{connector} was paused already"
    )


def change(state: Path, connector: str, action: Literal["pause", "resume"]) -> Mapping[str, bool]:
    """Pause or resume a connector, whether relay runs or not. Raises ClickException.

    `changed`: it was not so before; `retried`: it tries again at once."""
    if client := running(state):
        asked: Mapping[str, bool] = client.ask("POST", f"/lanes/{quote(connector, safe='')}/{action}")
        return asked
    if not state.is_dir():
        raise click.ClickException(f"there is no state folder {state}: --state names it")
    with told():
        known = sorted(lane.connector for lane in lanes(state))
        if connector not in known:
            raise click.ClickException(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
        return {"changed": (journal.pause if action == "pause" else journal.resume)(state, connector)}
