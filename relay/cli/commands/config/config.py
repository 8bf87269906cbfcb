"""`relay config`: what the configuration comes to, and its schema for editors."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import click

from relay.cli.options import conf_option, plugins_option, state_option
from relay.config import PLUGIN_FOLDERS, Config, Registry, find_folders, load
from relay.config import make_schema as schema_of
from relay.words import format_setting, format_toml_key


@click.group
def config() -> None:
    """Show the settings in the files of conf.d, and the schema of these files."""


@config.command
@conf_option
@state_option
@click.option("--origin", is_flag=True, help="Say of every setting which file and line it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, with origins.")
@plugins_option
def show(conf: Path | None, state: Path, origin: bool, as_json: bool, plugin_folders: tuple[Path, ...]) -> None:
    """Print every setting as relay would run with it, as one TOML file.

    Defaults are commented out. Secrets are shown as references only. Files of the console, in the state folder, have
    their whole path.

    Exit codes: 0 printed; 78 the configuration has mistakes.
    """
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    folders = find_folders(conf, state)
    loaded = load(folders, registry, secrets_required=False)
    config = loaded.config
    for warning in loaded.warnings:
        if warning.file == str(folders.console):  # without it, some settings are left out
            click.echo(f"warning: {warning}", err=True)
    if as_json:
        settings = [one.plain for one in config.list_effective()]
        click.echo(json.dumps(settings, indent=2))
    else:
        click.echo("\n".join(_format_settings(config, origin=origin)))


@config.command
@plugins_option
def schema(plugin_folders: tuple[Path, ...]) -> None:
    """Print a JSON Schema of a file of conf.d.

    The schema has the types of all installed plugins, and the names of groups, channels and event types. Editors
    complete and check with it.

    Exit codes: 0 printed.
    """
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    click.echo(json.dumps(schema_of(registry, partial(click.echo, err=True)), indent=2))


def _format_settings(config: Config, *, origin: bool) -> Iterator[str]:
    for (table, is_off), settings in groupby(config.list_effective(), attrgetter("table", "disabled")):
        yield f"[{format_toml_key(table)}]" + (" # switched off" if is_off else "")
        for setting in settings:
            depth = len(table)
            key = format_toml_key(setting.path[depth:])
            if setting.value is None:
                line = f"# {key} is not set"
            else:
                line = ("" if setting.file else "# ") + f"{key} = {format_setting(setting.value)}"
            yield f"{line:<64} # {setting.origin}" if origin else line
        yield ""
