"""`relay backup`: a copy of the state folder, of a relay that runs or one that does not.

A backup is of the embedded engine: it consists of files.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec

from relay.cli.format import format_time
from relay.cli.output import rewrite_line
from relay.cli.state_options import StateOptions, add_local_places
from relay.inspect import Backup, back_up
from relay.store import Unavailable
from relay.words import format_count

FOLDER: Final = click.Path(file_okay=False, path_type=Path)
DAMAGED: Final = "damaged in the journal itself, and copied as it is"


class BackupProgress:
    """Shows each finished file on a terminal, and counts segments of the journal."""

    def __init__(self) -> None:
        self.copied: set[Path] = set()
        """Segments that were copied."""
        self.there: set[Path] = set()
        """Segments that were there."""
        self._is_shown = sys.stderr.isatty()

    def __call__(self, path: Path, is_copied: bool) -> None:
        if path.suffix == ".log":
            (self.copied if is_copied else self.there).add(path)
        if self._is_shown:
            rewrite_line(f"{'copied' if is_copied else 'is there'}: {path}")

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            rewrite_line("")


@contextmanager
def show_progress(advice: str) -> Iterator[BackupProgress]:
    """Show the progress of the body. Raises Unavailable, with `advice` if a disk is full."""
    progress = BackupProgress()
    try:
        yield progress
    except Unavailable as error:
        progress.end()
        if error.reason == "full":
            raise Unavailable(f"no space left: {advice}", error.reason) from None
        raise
    progress.end()


@click.command
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@add_local_places
def backup(place: StateOptions, folder: Path, as_json: bool) -> None:
    """Copy the state folder into DIR, whether relay runs or not.

    Copies databases, journal and cuts, of all workers. Every event that was acknowledged before the backup began is in
    it. Into an earlier backup relay copies only what is new. A backup that was broken off goes on where it was. At the
    end relay reads all of the copy.

    The configuration, secrets, and files that connectors write are not in a backup.

    Exit codes: 0 complete; 1 not complete, or the journal itself is damaged.
    """
    place.check_embedded("pg_basebackup with archived WAL, or pg_dump of the schema")
    with show_progress(f"{folder} is not complete; the next relay backup goes on where it is") as progress:
        found, problems = back_up(place.state, place.path, folder, progress)
    if as_json:
        click.echo(
            json.dumps(msgspec.to_builtins(found) | {"copied": len(progress.copied), "problems": problems}, indent=2)
        )
    else:
        click.echo(
            "\n".join([*(f"{DAMAGED}: {problem}" for problem in problems), describe_backup(found, folder, progress)])
        )
    raise SystemExit(1 if problems else 0)


def describe_backup(found: Backup, folder: Path, progress: BackupProgress) -> str:
    """Describe a finished backup in a sentence."""
    there = len(progress.there - progress.copied)
    files = f"{format_count(len(progress.copied), 'segment')} copied" + (f", {there:,} were there" if there else "")
    return f"{folder}: {format_count(found.events, 'event')} as of {format_time(found.made)}, verified; {files}"
