"""`relay cohorts watch`: every file that comes into a folder is the whole membership of a cohort."""

import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from relay_plugins.braze_cohorts.effect import known_effect
from relay_plugins.braze_cohorts.files import Form, users_in
from relay_plugins.braze_cohorts.membership import events_of, match_of, send
from relay_plugins.braze_cohorts.options import (
    connector_option,
    form_options,
    state_option,
    token_option,
    url_option,
    yes_option,
)

ENDINGS: Final = (".csv", ".ndjson")
DONE, FAILED = ".done", ".failed"


@click.command
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Push what is there, then end: with 1 if a file failed.")
@form_options
@yes_option
@url_option
@token_option
@state_option
@connector_option
@click.pass_context
def watch(
    ctx: click.Context,
    /,
    folder: Path,
    every: float,
    once: bool,
    yes: bool,
    url: str,
    token_env: str,
    state: Path,
    connector: str | None,
    **form: Any,
) -> None:
    """Push every file ID.csv or ID.ndjson that comes into DIR as the whole membership of the cohort ID.

    Files are read as by push. What was pushed is renamed to ID.csv.done; what cannot be read, or would remove more than
    half of the known members, to ID.csv.failed, with the reason on standard error; what relay does not take stays and
    is tried again. Write under another name and rename when complete.
    """
    match_of(form["match"])
    pushing = Pushing(ctx, Form(**form), state, connector, yes, url, token_env)
    while True:
        good = [pushing.push(path) for path in waiting(folder)]
        if once:
            ctx.exit(0 if all(good) else 1)
        time.sleep(every)


def waiting(folder: Path) -> list[Path]:
    """The files to push, the oldest first."""
    found = [path for path in folder.iterdir() if path.suffix in ENDINGS and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime)


class Pushing(NamedTuple):
    """How files are pushed."""

    ctx: click.Context
    form: Form
    state: Path
    connector: str | None
    drastic: bool
    """Even if more than half of the known members would leave."""
    url: str
    token_env: str

    def push(self, path: Path) -> bool:
        """Push one, or say why not; tell whether that went well."""
        try:
            users, told = self._looked_at(path)
        except (click.ClickException, OSError) as error:
            path.rename(path.with_name(path.name + FAILED))
            return _failed(path, error)
        try:
            events = events_of(path.stem, "", match_of(self.form.match), users, full=True)
            send(self.ctx, events, self.url, self.token_env)
        except click.ClickException as error:  # not the file's fault: it stays for the next look
            return _failed(path, error)
        path.rename(path.with_name(path.name + DONE))
        click.echo(f"{path}: {told}")
        return True

    def _looked_at(self, path: Path) -> tuple[list[str], str]:
        """Its users, and what that means. Raises ClickException, OSError."""
        with path.open("rb") as file:
            users = users_in(file, self.form)
        effect = known_effect(self.state, self.connector, path.stem, users, self.form.match)
        if effect and effect.is_drastic and not self.drastic:
            raise click.ClickException(f"{effect}: more than half would leave; with --yes such files are pushed, too")
        return users, f"{len(users):,} users" + (f", {effect}" if effect else "")


def _failed(path: Path, error: click.ClickException | OSError) -> bool:
    click.echo(f"{path}: {error.format_message() if isinstance(error, click.ClickException) else error}", err=True)
    return False
