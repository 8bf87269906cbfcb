"""`relay journal copy`: everything that relay keeps, from a state folder to PostgreSQL, and back."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from pydantic import ValidationError

from relay.admin import make_copy_entry
from relay.cli.format import format_table
from relay.cli.output import rewrite_line
from relay.cli.state_options import StateOptions, add_local_places, note_history
from relay.client import find_login
from relay.config import GivenDsn, JournalSettings
from relay.words import format_count

if TYPE_CHECKING:
    from relay.copy import CopiedLog, CopyResult

EMBEDDED: Final = "embedded"
CONFIGURED: Final = "postgres"
LAST: Final = "The last pass: the rest of the events, and all that relay knows beside them. Stop every relay before."


@click.command
@click.option(
    "--to",
    "where",
    metavar="DSN|postgres|embedded",
    required=True,
    help="Copy there: a PostgreSQL database, that of the configuration, or --state.",
)
@click.option(
    "--from", "origin", metavar="DSN", help="With --to embedded: from this database, not the configuration's."
)
@click.option("--schema", metavar="NAME", default="relay", help="The schema in the database of a DSN (default: relay).")
@click.option("--path", metavar="DIR", type=Path, help="The folder of the embedded journal (default: journal.path).")
@click.option("--last", is_flag=True, help=LAST)
@add_local_places
def copy(place: StateOptions, where: str, origin: str | None, schema: str, path: Path | None, last: bool) -> None:
    """Copy the journal, with all that relay knows beside it, from a state folder to PostgreSQL or back.

    Without --last it copies events, whether relay runs or not, and says what is left. It goes on where an earlier copy
    was cut off, and copies again what has changed since. With --last it copies the rest, shows the counts of both
    sides, and audits both. Without any difference, relay starts with the copy from then on, and no longer with the
    original. relay journal init makes the tables first. Worker n becomes partition n.

    DSN is in the words of libpq, such as "host=db1 dbname=relay user=relay". It needs no password: write
    passfile=/PATH, or service=NAME, or have the password in ~/.pgpass. With --to postgres, and --to embedded without
    --from, the dsn is the secret that journal.dsn of the configuration names. While relay still runs with another
    configuration, --conf names the folder with that one.

    Exit codes: 0 copied; 1 not copied, or the sides differ.
    """
    dsn = origin if where == EMBEDDED else where if where != CONFIGURED else None
    settings = _make_settings(dsn, schema) if dsn else place.journal
    if settings.backend == EMBEDDED:
        raise click.ClickException('journal.backend of the configuration is "embedded": give a DSN, or another --conf')
    from relay.copy import EmbeddedSide, copy_all, copy_logs, count_rest, open_postgres  # late: the driver is optional

    files, database = EmbeddedSide(place.state, path or place.path), open_postgres(place.state, settings)
    source, target = (database, files) if where == EMBEDDED else (files, database)
    with closing(files), closing(database), show_parts() as told:
        if not last:
            logs = copy_logs(source, target, told)
            click.echo("\n".join([*map(_describe_log, logs), *_describe_rest(count_rest(source))]))
            return
        config = place.config
        result = copy_all(source, target, told, config.kept_for if config else None)
        if not result.problems:
            note_history(target.store, make_copy_entry(source.place, find_login()))
    click.echo("\n".join([*map(_describe_log, result.logs), *_format_counts(result)]))
    if result.problems:
        click.echo("\n".join([*result.problems, f"NOT THE SAME: {target.place} is not used, {source.place} is"]))
        raise SystemExit(1)
    click.echo(f"both sides are the same; relay starts with {target.place} from now on")


def _make_settings(dsn: str, schema: str) -> JournalSettings:
    """Make the settings of a database that no configuration names. Raises click.ClickException."""
    given = GivenDsn(dsn)
    try:
        settings = JournalSettings(backend="postgres", dsn=given, schema=schema)
    except ValidationError as error:
        raise click.ClickException(error.errors()[0]["msg"]) from None
    if given.problem:
        raise click.ClickException(given.problem)
    return settings


@contextmanager
def show_parts() -> Iterator[Callable[[int, int, int], None]]:
    """Show on a terminal how far the body is."""
    is_shown = sys.stderr.isatty()

    def show(partition: int, done: int, parts: int) -> None:
        if is_shown:
            rewrite_line(f"partition {partition}: {done} of {parts} segments")

    try:
        yield show
    finally:
        if is_shown:
            rewrite_line("")


def _describe_log(one: "CopiedLog") -> str:
    more = [f"{one.there:,} were there"] if one.there else []
    more += [f"{one.removed:,} removed that have left the journal"] if one.removed else []
    copied = f"{format_count(one.parts, 'segment')} copied with {format_count(one.events, 'event')}"
    return "; ".join([f"partition {one.partition}: {copied}", *more])


def _describe_rest(rest: Mapping[str, int]) -> Iterator[str]:
    rows = ", ".join(f"{name} ({count:,})" for name, count in rest.items() if count)
    yield f"left for the last pass: events that come until then; rows of {rows}"
    yield "then stop every relay, and give the same command with --last"


def _format_counts(result: "CopyResult") -> Sequence[str]:
    counts = [
        [f"partition {partition}", what, f"{getattr(here, what):,}", f"{getattr(there, what):,}"]
        for partition, (here, there) in result.audits.items()
        for what in ("oldest", "head")
    ]
    counts += [
        [f"partition {one.partition}", one.what, f"{one.source:,}", f"{one.target:,}"]
        for one in result.counts
        if one.source or one.target
    ]
    audits = [
        f"audit of partition {partition}: {side}: {'; '.join(found.problems) or 'everything balances'}"
        for partition, both in result.audits.items()
        for side, found in zip(("original", "copy"), both, strict=True)
    ]
    return ["", *format_table([["", "what", "original", "copy"], *sorted(counts, key=lambda row: row[0])]), "", *audits]
