"""`relay plugins`: what is installed or dropped in, what it provides, and what is broken."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from relay.cli.options import plugins_option
from relay.config import PLUGIN_FOLDERS, Registry


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@plugins_option
def plugins(as_json: bool, plugin_folders: tuple[Path, ...]) -> None:
    """List the plugins, and what each provides.

    The list has name, version and origin. For a broken plugin it says why it cannot be used, and for a type without its
    libraries what to install.

    Exit codes: 0 listed.
    """
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    found = [replace(info, notes=tuple(registry.describe_notes(info))) for info in registry.plugins]
    if as_json:
        click.echo(json.dumps([asdict(info) for info in found], indent=2))
        return
    lines = []
    for info in found:
        what = f"BROKEN: {' '.join(info.error.split())}" if info.error else ", ".join(info.provides) or "nothing"
        head = f"{info.name:<16} {info.version or '-':<10} {info.origin}"
        lines += [head, *(f"    {line}" for line in (what, *info.notes))]
    click.echo("\n".join(lines))
