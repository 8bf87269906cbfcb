"""Checks what an admin wrote and installed: the configuration, plugins, and the permissions of secrets."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relay.cli.commands.config.check import SHOWN, describe_left_out
from relay.cli.commands.doctor.report import Finding, Installation
from relay.config import find_unmade, format_path, make_mistakes

PUBLIC: Final = ("certificate", "client_ca", "ca")
"""Settings that refer to a file like a secret, but hold none."""
LOADED: Final = 'let systemd read it as root: LoadCredential=NAME:FILE in the unit, { credential = "NAME" } in conf.d'
"""Advice for a secret file that the unit's user cannot read, or others can."""


def check_configuration(it: Installation) -> Iterator[Finding]:
    """Yield the mistakes and warnings of `relay check`, the first ones of very many."""
    for mistake in it.mistakes[:SHOWN]:
        yield Finding("problem", "configuration", str(mistake), "correct this mistake: relay does not start with it")
    for more in describe_left_out(it.mistakes, "mistake"):
        yield Finding("problem", "configuration", more)
    of_console = [path for path, secret in it.secrets if path[0] == "console" and secret.how == "credential"]
    elsewhere = {*map(format_path, of_console)}  # the console's unit loads them, and is checked as well
    warnings = [one for one in it.warnings if one.key not in elsewhere]
    for warning in warnings[:SHOWN]:
        yield Finding("warning", "configuration", str(warning))
    for more in describe_left_out(warnings, "warning"):
        yield Finding("warning", "configuration", more)
    if it.loaded:
        unmade = find_unmade(it.config, it.state)
        for mistake in make_mistakes([one for one in unmade.failures if one.kind != "connector"]):  # those are probed
            yield Finding(
                "problem", "configuration", str(mistake), "correct this mistake: relay does not start with it"
            )
        if unmade.untried:
            said = f"not made, as their secrets cannot be read here: {', '.join(unmade.untried)}"
            yield Finding("ok", "configuration", said)
        kinds = {"sources": it.config.sources, "connectors": it.config.connectors, "filters": it.config.filters}
        kinds |= {"alerts": it.config.alerts} if it.config.alerts else {}
        said = ", ".join(f"{kind}: {len(named)}" for kind, named in kinds.items())
        if it.config.console.launch:
            said += f"; files of the console: {it.config.folders.of_console}"
        yield Finding("ok", "configuration", said)


def check_plugins(it: Installation) -> Iterator[Finding]:
    """Find plugins that cannot be used, and plugin folders that others can write to."""
    plugins = it.registry.list_plugins()
    for info in plugins:
        if info.error:
            yield Finding("warning", f"plugin {info.name}", f"{info.origin}: {info.reason}", "see relay plugins")
    for folder in it.plugin_folders:
        if folder.is_dir() and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            advice = f"chmod go-w {folder}"
            yield Finding("warning", "plugin folder", f"{folder} can be written by others than its owner", advice)
    good = sum(not info.error for info in plugins)
    yield Finding("ok", "plugins", f"{good} can be used")


def check_secrets(it: Installation) -> Iterator[Finding]:
    """Find secret files that everybody can read or write."""
    found = {leaf for path, leaf in it.secrets if path[-1] not in PUBLIC}
    files = sorted(secret.name for secret in found if secret.how == "file" and not secret.problem)
    others = [name for name in files if Path(name).stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)]
    for name in others:
        moved = it.unit is not None and not it.unit.is_root  # a user that others include could not read it any more
        yield Finding(
            "warning", "secret", f"{name} can be read by every user", LOADED if moved else f"chmod o-rwx {name}"
        )
    if found and not others:
        yield Finding("ok", "secrets", f"{len(found)}, none in a file that every user can read")
