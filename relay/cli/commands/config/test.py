"""`relay test`: what connectors would get of the events in the tables [test.NAME]."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from relay.cli.commands.config.check import BAD_CONFIGURATION
from relay.cli.event_file import read_events
from relay.cli.options import CONF, plugins_option, state_option
from relay.config import (
    PLUGIN_FOLDERS,
    ConfFolders,
    ConfigError,
    Registry,
    RouteTest,
    find_event_file,
    find_folders,
    load,
)
from relay.trial import TriedConnector, TriedTest, try_test
from relay.words import format_count

NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Matches characters that XML cannot have."""


@click.command
@click.argument("folder", metavar="[DIR]", required=False, type=CONF)
@click.option("--conf", metavar="DIR", type=CONF, help="The same as DIR.")
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--junit", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML, too.")
@plugins_option
@click.pass_context
def test(
    ctx: click.Context,
    folder: Path | None,
    conf: Path | None,
    state: Path,
    as_json: bool,
    junit: Path | None,
    plugin_folders: tuple[Path, ...],
) -> None:
    """Try the tables [test.NAME] of the configuration in DIR; nothing is delivered.

    A test names an event, and what connectors are expected to make of it. The event goes through the selection and the
    filters of each connector. The command says what was expected, what came instead, and which entry or filter decided.
    It needs no running relay. It opens the filters, and no connector.

    Exit codes: 0 all tests pass, or there are none; 1 a test fails; 78 the configuration has mistakes, and --junit
    writes no file.
    """
    if folder and conf:
        raise click.UsageError("the folder is given twice: as DIR and as --conf")
    folders = find_folders(folder or conf, state)
    try:
        with redirect_stdout(sys.stderr):  # what plugins print is not what was asked for
            tried = _try_all(folders, plugin_folders or PLUGIN_FOLDERS, state)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"ok": False, "mistakes": [str(one) for one in error.mistakes], "tests": []}, indent=2))
        ctx.exit(BAD_CONFIGURATION)
    if junit:
        _write_junit(junit, tried)
    failed = [one for one in tried if not one.ok]
    if as_json:
        plain = {"ok": not failed, "mistakes": [], "tests": [*map(_make_plain, tried)]}
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo("\n".join([line for one in tried for line in _format_test(one)]), nl=bool(tried))
        place = ", ".join(map(str, folders.in_order))
        counts = (
            f"{len(tried) - len(failed):,} passed, {len(failed):,} failed"
            if tried
            else f"there is no [test.NAME] in {place}"
        )
        click.echo(f"{format_count(len(tried), 'test')}: {counts}")
    if failed:
        ctx.exit(1)


def _try_all(folders: ConfFolders, plugin_folders: Sequence[Path], state: Path) -> list[TriedTest]:
    """Try all tests. Raises ConfigError."""
    loaded = load(folders, Registry.discover(plugin_folders), secrets_required=False)
    config = replace(loaded.config, connectors=loaded.connectors)
    return [
        asyncio.run(try_test(one, _read_events(one, folders.in_order), config, state.absolute()))
        for one in loaded.tests
    ]


def _read_events(one: RouteTest, folders: Sequence[Path]) -> Iterator[bytes]:
    """Yield the events of a test. Raises OSError, ValueError."""
    if one.settings.sample:
        from relay.sandbox import make_sample  # late: the stand-ins are many modules

        yield json.dumps(make_sample(one.settings.sample, time.time())).encode()
    elif one.settings.file is None:
        yield one.settings.event.encode()
    else:
        with find_event_file(one.settings.file, folders).open("rb") as file:
            yield from read_events(file, None)


def _place(one: RouteTest) -> str:
    return one.file if one.line is None else f"{one.file}:{one.line}"


def _format_test(tried: TriedTest) -> Iterator[str]:
    said = [f"{one.connector}{' (disabled)' if one.disabled else ''} {one.expected}" for one in tried.connectors]
    yield f"{'passed' if tried.ok else 'FAILED'}  {tried.test.name}  {_place(tried.test)}: {', '.join(said)}"
    yield from (f"    {line}" for line in _explain(tried))


def _explain(tried: TriedTest) -> Iterator[str]:
    """Yield why a test has failed."""
    if tried.problem:
        yield tried.problem
    for one in tried.connectors:
        yield from (f"{one.connector}: {line}" for line in _explain_connector(one, several=tried.events > 1))


def _explain_connector(one: TriedConnector, *, several: bool) -> Iterator[str]:
    if one.problem:
        yield f"not tried: {one.problem}"
    for missed in one.examples:
        about = f"event {missed.event}: " if several else ""
        yield f"{about}expected {missed.expected}, came {missed.came} ({missed.decided})"
    if several and one.missed:
        yield f"{one.missed:,} of {format_count(one.outcomes.total(), 'event')} did not come as expected"


def _make_plain(tried: TriedTest) -> dict[str, Any]:
    connectors = [{**msgspec.to_builtins(one), "ok": one.ok} for one in tried.connectors]
    return {
        "name": tried.test.name, "file": tried.test.file, "line": tried.test.line, "ok": tried.ok,
        "events": tried.events, "problem": tried.problem, "connectors": connectors,
    }  # fmt: skip


def _write_junit(path: Path, tried: Sequence[TriedTest]) -> None:
    """Write the results as JUnit XML. Raises click.ClickException."""
    from xml.etree import ElementTree as Xml  # late: few runs write it

    failures = str(sum(not one.ok for one in tried))
    suite = Xml.Element("testsuite", name="relay test", tests=str(len(tried)), failures=failures, errors="0")
    for one in tried:
        case = Xml.SubElement(suite, "testcase", name=one.test.name, classname="relay", file=_clean(one.test.file))
        if one.test.line is not None:
            case.set("line", str(one.test.line))
        if not one.ok:
            lines = [_clean(line) for line in _explain(one)]
            Xml.SubElement(case, "failure", message=lines[0]).text = "\n".join(lines)
    whole = Xml.Element("testsuites", tests=str(len(tried)), failures=failures)
    whole.append(suite)
    try:
        Xml.ElementTree(whole).write(path, "utf-8", xml_declaration=True)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None


def _clean(text: str) -> str:
    return NO_XML.sub("?", text)
