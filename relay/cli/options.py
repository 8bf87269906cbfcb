"""Options that several commands share."""

import os
from pathlib import Path
from typing import Final

import click

FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
CONF: Final = click.Path(path_type=Path)
"""A folder of the configuration; that it is missing is for `load` to say."""

conf_option = click.option("--conf", metavar="DIR", type=CONF, help="The configuration (default: /etc/relay/conf.d).")
plugins_option = click.option(
    "--plugins", "plugin_folders", metavar="DIR", multiple=True, type=FOLDER, help="Look for plugins here."
)
state_option = click.option(
    "--state",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: os.environ.get("STATE_DIRECTORY", "/var/lib/relay"),
    help="Journal and database (default: $STATE_DIRECTORY, or /var/lib/relay).",
)
