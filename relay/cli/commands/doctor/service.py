"""Checks relay as a service: whether it can run, does run, and gets its secrets."""

import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import relay
from relay.api import Secret
from relay.cli.commands.doctor.report import Finding, Installation, Level
from relay.cli.commands.doctor.settings import LOADED
from relay.cli.commands.doctor.unit import CONSOLE, NAME, Unit, find_installed, find_own_command, read_service_settings
from relay.config import ConfFolders, counts, find_shipped, read_stamps

LOG: Final = "journalctl -u relay -o cat -n 20 says why; then systemctl restart relay"

WITHIN_REACH: Final = "make install, or the Debian package, puts relay where it can be run (/opt/relay)"


def check_program(it: Installation) -> Iterator[Finding]:
    """Check that the service can run its program.

    Without an installed unit, check that relay's own unit could run this installation.
    """
    if it.unit is None:
        unit = Unit({}, read_service_settings((find_shipped("systemd") / NAME).read_text()))
        if why := explain_out_of_reach(unit):
            said = f"this relay can be run by hand, not by the unit that comes with it: {why}"
            yield Finding("ok", "program", said)
    elif it.unit.program and not it.unit.program.exists():
        yield Finding("problem", "program", f"{NAME} starts {it.unit.program}, which is not there", WITHIN_REACH)
    elif it.unit.program and (why := it.unit.explain_unreadable(it.unit.program)):
        yield Finding("problem", "program", f"{NAME} cannot run {it.unit.program}: {why}", WITHIN_REACH)


def explain_out_of_reach(unit: Unit) -> str | None:
    """Return why the unit's user cannot run this installation of relay; None if it can. Raises OSError."""
    found = (
        (path, unit.explain_unreadable(path))
        for path in (find_own_command(), Path(sys.executable).resolve(), Path(relay.__file__))
    )
    return next((f"{path}: {why}" for path, why in found if why), None)


def check_runs(it: Installation) -> Iterator[Finding]:
    """Check that systemd has started relay. Nothing is checked without a unit for this configuration."""
    if it.unit is None:
        return
    states = it.unit.states
    active, enabled = states.get("ActiveState", ""), states.get("UnitFileState", "")
    said = f"{NAME} is {active} ({states.get('SubState')}) and {enabled or 'not enabled'}"
    if active == "failed" or states.get("SubState") == "auto-restart":
        code = states.get("ExecMainStatus", "")
        yield Finding("problem", "service", f"relay does not run: {NAME} failed, exit code {code}", LOG)
    elif active == "inactive":
        level: Level = "warning" if enabled.startswith("enabled") else "ok"
        yield Finding(level, "service", f"relay does not run: {said}", "systemctl enable --now relay")
    else:
        yield Finding("ok", "service", said)
    if states.get("NeedDaemonReload") == "yes":
        yield Finding("warning", "service", f"{NAME} has changed on disk", "systemctl daemon-reload")


def check_files(it: Installation) -> Iterator[Finding]:
    """Find files of the configuration that the service cannot read: it neither starts nor reloads with such a file."""
    if it.unit is None:
        return
    folders = it.config.folders if it.loaded and it.config.console.launch else ConfFolders(it.conf)
    for path in (Path(name) for name, *_ in read_stamps(folders) if counts(Path(name).name)):
        if why := it.unit.explain_unreadable(path):
            advice = f"chown --reference={path.parent} {path}; chmod u+r {path}"
            if not folders.is_of_console(path):
                advice = f"chmod o+r {path}; secrets in it belong into files of their own"
            yield Finding("problem", "file", f"{path} cannot be read by {it.unit.name}: {why}", advice)


def check_secrets(it: Installation) -> Iterator[Finding]:
    """Check that the service gets every secret, and that the console gets those of [console] if it is in use."""
    if it.unit is None:
        return
    yield from _check_secrets({secret for path, secret in it.secrets if path[0] != "console"}, it.unit)
    of_console = {secret for path, secret in it.secrets if path[0] == "console"}
    console = find_installed(CONSOLE) if of_console else None
    if console and [*console.conf] == [*it.unit.conf] and console.is_in_use:
        yield from _check_secrets(of_console, console)


def _check_secrets(secrets: Collection[Secret], unit: Unit) -> Iterator[Finding]:
    lacking = [finding for secret in sorted(secrets, key=repr) if (finding := _check_secret(secret, unit))]
    yield from lacking
    if secrets and not lacking:
        yield Finding("ok", "secrets", f"{unit.name} gets at each of them when it is started")


def _check_secret(secret: Secret, unit: Unit) -> Finding | None:
    try:
        if secret.how == "credential":
            line = f"LoadCredential={secret.name}:/etc/relay/credentials/{secret.name}"
            if not unit.loads(secret.name):
                service = unit.name.removesuffix(".service")
                advice = f"systemctl edit {service}: [Service], {line}; then systemctl restart {service}"
                return Finding("problem", "secret", f"{secret}: {unit.name} loads no such credential", advice)
            if path := unit.find_missing(secret.name):
                said = f"{secret}: {path}, which {unit.name} loads it from, is not there"
                return Finding("problem", "secret", said, f"write {path}")
            return None
        if secret.how == "env":
            said = f"{secret}: {unit.name} has no Environment={secret.name}=... and no EnvironmentFile="
            return None if unit.sets(secret.name) else Finding("problem", "secret", said, LOADED)
        why = unit.explain_unreadable(Path(secret.name))
        return Finding("problem", "secret", f"{secret} cannot be read by {unit.name}: {why}", LOADED) if why else None
    except OSError as error:
        return Finding(
            "warning", "secret", f"{secret} cannot be looked at: {error.strerror}", "run relay doctor as root"
        )
