"""`relay check`: every mistake of the configuration at once, before the daemon meets it."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from msgspec.structs import asdict, replace

from relay.cli.options import CONF, plugins_option, state_option
from relay.config import (
    HIDDEN,
    PLUGIN_FOLDERS,
    ConfFolders,
    ConfigError,
    Loaded,
    Mistake,
    Registry,
    find_folders,
    find_unmade,
    load,
    make_mistakes,
)
from relay.words import format_count

SHOWN: Final = 100
"""Mistakes, and as many warnings, that are written for people; JSON has all of them."""
BAD_CONFIGURATION: Final = 78
"""The exit code of a command that finds the configuration wrong (EX_CONFIG of sysexits.h)."""


class Checked(Struct, frozen=True):
    """The result of a check; `loaded` is None if the configuration could not be loaded."""

    loaded: Loaded | None
    mistakes: Sequence[Mistake]
    warnings: Sequence[Mistake]
    untried: Sequence[str] = ()
    """Tables of which nothing could be made."""
    probed: Sequence[str] | None = None
    """What was found of the database, in sentences; None if nobody has looked."""

    @property
    def plain(self) -> dict[str, object]:
        """Return the result as plain JSON."""
        more = {"untried": [*self.untried]} if self.untried else {}
        more |= {} if self.probed is None else {"probed": [*self.probed]}
        mistakes, warnings = [*map(asdict, self.mistakes)], [*map(asdict, self.warnings)]
        return {"ok": not mistakes, "mistakes": mistakes, "warnings": warnings, **more}


@click.command
@click.argument("folder", metavar="[DIR]", required=False, type=CONF)
@click.option("--conf", metavar="DIR", type=CONF, help="The same as DIR.")
@state_option
@click.option("--probe", is_flag=True, help="Connect to the database of the journal, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@plugins_option
@click.pass_context
def check(
    ctx: click.Context,
    folder: Path | None,
    conf: Path | None,
    state: Path,
    probe: bool,
    as_json: bool,
    plugin_folders: tuple[Path, ...],
) -> None:
    """Check the configuration in DIR, and name every mistake.

    Without DIR it checks /etc/relay/conf.d, what packages add, and the files of the console in the state folder. It
    makes every source, connector, filter and alert, and opens none. Outside the service, `{ credential = ... }` cannot
    be read: each is a warning, and what needs the secret is not made. `relay doctor` says whether the unit loads them.

    With --probe it connects to the PostgreSQL database of the journal. It reports version, role, round trip, tables,
    grants, and on how many servers an acknowledged event is. It changes nothing there.

    Exit codes: 0 relay would start with the configuration; 78 the configuration has mistakes.
    """
    if folder and conf:
        raise click.UsageError("the folder is given twice: as DIR and as --conf")
    given = folder or conf
    with redirect_stdout(sys.stderr):  # what plugins print is not what was asked for
        found = _check_folders(find_folders(given, state), plugin_folders or PLUGIN_FOLDERS, state)
        if probe and found.loaded and not found.mistakes:
            found = _probe(found, found.loaded)
    if as_json:
        click.echo(json.dumps(found.plain, indent=2))
    else:
        click.echo("\n".join([report(found.mistakes, found.warnings), *_summarize(found)]))
    ctx.exit(BAD_CONFIGURATION if found.mistakes else 0)


def report(mistakes: Sequence[Mistake], warnings: Sequence[Mistake]) -> str:
    """Format mistakes and then warnings, each with its line of the file, and count them. Of each kind SHOWN appear."""
    shown = mistakes[:SHOWN], warnings[:SHOWN]
    lines = [*map(_format_mistake, shown[0]), *describe_left_out(mistakes, "mistake")]
    lines += [
        *(f"warning: {_format_mistake(warning)}" for warning in shown[1]),
        *describe_left_out(warnings, "warning"),
    ]
    if any(HIDDEN in found.excerpt for some in shown for found in some):
        lines.append(f"({HIDDEN} stands for what is not shown because it may be secret)")
    return "\n".join([*lines, f"{format_count(len(mistakes), 'mistake')}, {format_count(len(warnings), 'warning')}"])


def describe_left_out(found: Sequence[Mistake], noun: str) -> list[str]:
    """Return a line with the number beyond SHOWN; no line if all are shown."""
    more = len(found) - SHOWN
    return [f"and {format_count(more, f'more {noun}')}, see relay check --json"] if more > 0 else []


def _check_folders(folders: ConfFolders, plugin_folders: Sequence[Path], state: Path) -> Checked:
    try:
        loaded = load(folders, Registry.discover(plugin_folders), secrets_required=False)
    except ConfigError as error:
        return Checked(None, error.mistakes, error.warnings)
    unmade = find_unmade(loaded.config, state)
    return Checked(loaded, make_mistakes(unmade.failures), loaded.warnings, unmade.untried)


def _probe(found: Checked, loaded: Loaded) -> Checked:
    """Add what is found of the database."""
    from relay.engine import observe_database  # late: only a probe needs all of the store

    journal = loaded.config.journal
    if journal.backend == "embedded":
        return replace(found, probed=["not probed: the journal is on the disk of this machine"])
    try:
        observed = observe_database(journal)
    except OSError as error:
        return replace(found, mistakes=[loaded.merged.make_mistake(("journal", "dsn"), str(error))], probed=[])
    told: dict[str, list[Mistake]] = {"problem": [], "warning": []}
    for one in observed:
        if one.level != "ok":
            reason = f"{one.about}: {one.said}{f'; {one.advice}' if one.advice else ''}"
            told[one.level].append(loaded.merged.make_mistake(("journal", one.setting), reason))
    return replace(
        found,
        mistakes=told["problem"],
        warnings=[*found.warnings, *told["warning"]],
        probed=[f"{one.about}: {one.said}" for one in observed if one.level == "ok"],
    )


def _format_mistake(mistake: Mistake) -> str:
    return f"{mistake}\n{mistake.line:>6} | {mistake.excerpt}" if mistake.excerpt else str(mistake)


def _summarize(found: Checked) -> Iterator[str]:
    """Yield what is configured if there is no mistake, then what was not checked whole."""
    if found.loaded and not found.mistakes:
        config, loaded = found.loaded.config, found.loaded
        tables = {"source": config.sources, "connector": config.connectors, "filter": config.filters}
        tables |= {"alert": config.alerts} if loaded.merged.get_tables("alert") else {}
        counts = []
        for kind, named in tables.items():
            disabled = sum(name.startswith(f"{kind}.") for name in loaded.disabled)
            counts.append(format_count(len(named), kind) + (f" ({disabled} disabled)" if disabled else ""))
        yield f"good: {', '.join(counts)}"
        if of_console := sum(config.folders.is_of_console(text.name) for text in config.texts):
            yield f"{format_count(of_console, 'file')} of the console in {config.folders.console}"
        if config.journal.backend != "embedded" and found.probed is None:
            yield "not looked at without --probe: the database, and whether it has more partitions, which never shrink"
    yield from found.probed or ()
    if found.untried:
        yield f"not made, as their secrets cannot be read here: {', '.join(found.untried)}"
