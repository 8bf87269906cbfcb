"""`relay cohorts watch`: every file that comes into a folder is the whole membership of a cohort."""

import time
from pathlib import Path
from typing import Final

import click

from relay_plugins.braze_cohorts.membership import events_of, match_of, send, users_in

ENDINGS: Final = (".csv", ".ndjson")
DONE, FAILED = ".done", ".failed"


@click.command
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Push what is there, then end: with 1 if a file failed.")
@click.option("--match", default="external_id", show_default=True, help="As for push.")
@click.option("--url", required=True, help="A source of type json of a running relay.")
@click.option("--token-env", default="RELAY_TOKEN", show_default=True, help="Variable with its token.")
@click.pass_context
def watch(ctx: click.Context, folder: Path, every: float, once: bool, match: str, url: str, token_env: str) -> None:
    """Push every file ID.csv or ID.ndjson that comes into DIR as the whole membership of the cohort ID.

    What was pushed is renamed to ID.csv.done, what cannot be read to ID.csv.failed, with the reason on standard error;
    what relay does not take stays and is tried again. Write under another name and rename when complete.
    """
    match_of(match)
    while True:
        good = [_push(ctx, path, match, url, token_env) for path in waiting(folder)]
        if once:
            ctx.exit(0 if all(good) else 1)
        time.sleep(every)


def waiting(folder: Path) -> list[Path]:
    """The files to push, the oldest first."""
    found = [path for path in folder.iterdir() if path.suffix in ENDINGS and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _push(ctx: click.Context, path: Path, match: str, url: str, token_env: str) -> bool:
    try:
        with path.open("rb") as file:
            users = users_in(file, match)
    except (click.ClickException, OSError) as error:
        path.rename(path.with_name(path.name + FAILED))
        return _failed(path, error)
    try:
        send(ctx, events_of(path.stem, "", match_of(match), users, full=True), url, token_env)
    except click.ClickException as error:  # not the file's fault: it stays for the next look
        return _failed(path, error)
    path.rename(path.with_name(path.name + DONE))
    click.echo(f"{path}: {len(users):,} users")
    return True


def _failed(path: Path, error: click.ClickException | OSError) -> bool:
    click.echo(f"{path}: {error.format_message() if isinstance(error, click.ClickException) else error}", err=True)
    return False
