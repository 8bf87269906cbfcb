"""`relay cohorts watch`: pushes every file that comes into a folder as the whole membership of a cohort."""

import time
from pathlib import Path
from typing import Final

import click

from relay_plugins.braze_cohorts.cli.files import read_users
from relay_plugins.braze_cohorts.cli.membership import Pushing, format_count, pushing_options
from relay_plugins.braze_cohorts.cli.options import NotFound, open_store

ENDINGS: Final = (".csv", ".ndjson")
DONE, FAILED = ".done", ".failed"


@click.command
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between searches.")
@click.option("--once", is_flag=True, help="Push what is there, then end: with 1 if a file failed.")
@pushing_options
def watch(folder: Path, every: float, once: bool, pushing: Pushing) -> None:
    """Push every file ID.csv or ID.ndjson that comes into DIR, the oldest first.

    Each file is the whole membership of the cohort ID, read as by push. A pushed file is renamed to ID.csv.done. A file
    that cannot be read is renamed to ID.csv.failed. So is a file that would remove more than half of the known members.
    Standard error has the reason. A file that relay does not take stays and is tried again. Write under another name,
    and rename the complete file.

    Exit codes: 0 ended, or --once and every file was pushed; 1 --once and a file failed.
    """
    if not pushing.drastic:
        with open_store(pushing.state, pushing.connector):
            pass
    while True:
        pushed = [push_file(pushing, path) for path in list_waiting(folder)]
        if once:
            pushing.ctx.exit(0 if all(pushed) else 1)
        time.sleep(every)


def list_waiting(folder: Path) -> list[Path]:
    """Return the files to push, the oldest first. Raises OSError."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def push_file(pushing: Pushing, path: Path) -> bool:
    """Push a file, or print why not; rename the file unless a later push may succeed. Return whether it was pushed."""
    try:
        with path.open("rb") as file:
            users = read_users(file, pushing.form)
        effect = pushing.compare(path.stem, users)
        if effect and effect.is_drastic and not pushing.drastic:
            raise click.ClickException(f"{effect}: more than half would leave; with --yes such files are pushed, too")
    except NotFound as error:  # not the file's fault: it stays for the next round
        return _report_failure(path, error)
    except (click.ClickException, OSError) as error:
        path.rename(path.with_name(path.name + FAILED))
        return _report_failure(path, error)
    try:
        pushing.send(path.stem, "", users)
    except click.ClickException as error:  # not the file's fault either
        return _report_failure(path, error)
    path.rename(path.with_name(path.name + DONE))
    click.echo(f"{path}: {format_count(len(users), 'user')}" + (f", {effect}" if effect else ""))
    return True


def _report_failure(path: Path, error: click.ClickException | OSError) -> bool:
    click.echo(f"{path}: {error.format_message() if isinstance(error, click.ClickException) else error}", err=True)
    return False
