"""`relay doctor`: what may go wrong on this machine, looked at before it does."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import click

from relay.cli.commands.doctor import alerts, daemon, database, disk, machine, reach, service, settings, unit
from relay.cli.commands.doctor.report import Finding, Installation, Level
from relay.cli.options import conf_option, plugins_option, state_option
from relay.client import ClientError
from relay.config import PLUGIN_FOLDERS, ConfFolders, ConfigError, Registry, find_folders, load

Check = Callable[[Installation], Finding | Iterable[Finding]]

CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("service", service.check_runs),
    ("relay", daemon.check_answers),
    ("configuration", settings.check_configuration),
    ("files", service.check_files),
    ("plugins", settings.check_plugins),
    ("secrets", settings.check_secrets),
    ("secrets of the service", service.check_secrets),
    ("state folder", disk.check_folder),
    ("relay.db", disk.check_database),
    ("file system", disk.check_kind),
    ("room", disk.check_room),
    ("inodes", disk.check_inodes),
    ("fdatasync", disk.check_sync),
    ("database", database.check_database),
    ("clock", machine.check_clock),
    ("open files", machine.check_limits),
    ("connectors", reach.check_connectors),
    ("alerts", alerts.check_sending),
    ("program", service.check_program),
)
ON_DISK: Final = (disk.check_database, disk.check_kind, disk.check_room, disk.check_inodes, disk.check_sync)
"""Checks of a journal on the disk of this machine."""
LEVELS: Final[Sequence[Level]] = ("problem", "warning", "ok")
"""Levels in the order of the report."""
PATIENCE_S: Final = 10.0
"""Seconds per check: a dead network file system never answers."""
THREAD: Final = "check of "
"""The prefix of the names of the checks' threads."""
CREDENTIALS: Final = Path("/run/credentials/relay.service")
"""systemd's folder with the secrets of a running relay. root may read them."""


@click.command
@conf_option
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@plugins_option
def doctor(conf: Path | None, state: Path, as_json: bool, plugin_folders: tuple[Path, ...]) -> None:
    """Find problems of installation, machine and destinations.

    Says what to do about each. Looks at the running relay, the configuration, plugins, state folder, disk or database,
    clock, limits, secrets, destinations, alerts and the systemd unit. The first lines say which state folder that is,
    whether a relay runs with it, and which folders of the configuration are checked. Without --conf, these are those
    of the relay that runs. Problems come first, then warnings, then what is well. As root it can look everywhere. Sends
    no event and changes nothing.

    Exit codes: 0 no problem; 1 a problem.
    """
    out = sys.stdout  # a check that hangs while it loads a plugin keeps another stream in its place
    conf = conf or next(iter(daemon.find_given(state, "--conf")), None)
    plugin_folders = plugin_folders or (*daemon.find_given(state, "--plugins"),)
    it = _make_installation(find_folders(conf, state), plugin_folders or PLUGIN_FOLDERS, state)
    is_embedded = it.config.journal.backend == "embedded"
    checks = [one for one in CHECKS if is_embedded or one[1] not in ON_DISK]
    findings = join_findings([finding for name, check in checks for finding in examine(name, check, it)])
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    count = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    if as_json:
        found = {"ok": not count["problem"], "findings": [*map(asdict, findings)]}
        click.echo(json.dumps(found, indent=2), out)
    else:
        (place,) = examine("state folder", daemon.describe_place, it)
        lines = [f"{place.about} {place.said}", f"configuration {', '.join(map(str, it.conf))}"]
        for one in findings:
            advice = [f"{'':<29} -> {one.advice}"] if one.advice else []
            lines += [f"{one.level:<8} {one.about:<20} {one.said}", *advice]
        click.echo("\n".join([*lines, f"problems: {count['problem']}, warnings: {count['warning']}"]), out)
    if any(thread.name.startswith(THREAD) for thread in threading.enumerate()):
        os._exit(1 if count["problem"] else 0)  # a thread that hangs in the kernel would never end
    raise SystemExit(1 if count["problem"] else 0)


def join_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Join what the running relay and relay doctor's own try say of a connector into one finding."""
    found: list[Finding] = []
    for one in findings:
        before = next((other for other in found if other.about == one.about), None)
        if before is None or not one.about.startswith("connector ") or before.level != "problem":
            found.append(one)
        elif one.level == "ok":
            found[found.index(before)] = replace(before, advice=f"no event was tried by relay doctor: {one.said}")
        elif one.said not in before.said:
            found[found.index(before)] = replace(before, advice=f"relay doctor has tried, too: {one.said}")
    return found


def examine(name: str, check: Check, it: Installation) -> list[Finding]:
    """Run a check in a thread of its own, and give it up after PATIENCE_S."""
    result: Future[list[Finding]] = Future()

    def make() -> None:
        try:
            found = check(it)
            result.set_result([found] if isinstance(found, Finding) else [*found])
        except BaseException as error:  # it is raised again where it can be told
            result.set_exception(error)

    thread = threading.Thread(target=make, name=THREAD + name, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)  # to its end: a thread that is left hangs
    if thread.is_alive():
        return [Finding("problem", name, f"not known: no answer within {PATIENCE_S:g} s", "is a file system dead?")]
    try:
        return result.result()
    except OSError as error:
        return [Finding("problem", name, f"cannot be looked at: {error}")]
    except (click.ClickException, ClientError) as error:  # the relay that runs cannot be asked
        return [Finding("problem", name, str(error))]


def _make_installation(conf: ConfFolders, plugin_folders: Sequence[Path], state: Path) -> Installation:
    if "CREDENTIALS_DIRECTORY" not in os.environ and os.access(CREDENTIALS, os.R_OK | os.X_OK):
        os.environ["CREDENTIALS_DIRECTORY"] = str(CREDENTIALS)
    registry = Registry.discover(plugin_folders)
    loaded, error = None, ConfigError(())
    try:
        loaded = load(conf, registry, secrets_required=False)
    except ConfigError as found:
        error = found
    there = unit.find_installed()
    return Installation(
        state=state.absolute(),
        conf=conf.others,
        plugin_folders=plugin_folders,
        registry=registry,
        loaded=loaded,
        mistakes=error.mistakes,
        warnings=loaded.warnings if loaded else error.warnings,
        unit=there if there and [*there.conf] == [folder.absolute() for folder in conf.others] else None,
    )
