"""What commands are told by --state, --conf and --plugins: a state folder, and what the configuration says of it."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import click

from relay.cli.options import conf_option, plugins_option, state_option, url_option
from relay.cli.output import Unwritten
from relay.config import CONF_FOLDERS, PLUGIN_FOLDERS, Config, ConfigError, Registry, load
from relay.state import Entry, OlderTables, add_entries
from relay.words import of_system


@dataclass(frozen=True)
class StateOptions:
    """What the options name."""

    state: Path
    conf: Path | None = None
    plugin_folders: Sequence[Path] = ()

    @cached_property
    def config(self) -> Config | None:
        """The configuration as it is on disk, if it is valid; looked at when it is needed."""
        try:
            registry = Registry.discover(self.plugin_folders or PLUGIN_FOLDERS)
            return load([self.conf] if self.conf else CONF_FOLDERS, registry, secrets_required=False).config
        except ConfigError as error:
            if self.conf:
                said = f"{self.conf} is left out of account: {error.mistakes[0]} (see relay check)"
                click.echo(f"warning: {said}", err=True)
            return None

    @property
    def path(self) -> Path:
        """Where each worker has its journal: the setting `journal.path`."""
        return self.config.journal.path if self.config else Path("journal")


def places(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a state folder, or a relay elsewhere, and hand what they mean to the command as its
    first argument."""
    return url_option(local_places(command))


def local_places(command: Callable[..., None]) -> Callable[..., None]:
    """The same for commands that work in the folder alone."""

    @wraps(command)
    def placed(*, conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], **options: Any) -> None:
        with told():
            command(StateOptions(state, conf, plugin_folders), **options)

    return conf_option(state_option(plugins_option(placed)))


@contextmanager
def told() -> Iterator[None]:
    """Tell what cannot be read without a traceback."""
    try:
        yield
    except Unwritten:  # `main` says it
        raise
    except PermissionError as error:
        said = f"{error.filename} may not be read by this user: be root, or the user that relay runs as"
        raise click.ClickException(said) from None
    except OSError as error:
        raise click.ClickException(of_system(error)) from None
    except sqlite3.Error as error:
        raise click.ClickException(str(error)) from None


def note(state: Path, entry: Entry) -> None:
    """Write what a command has done into the history of a state folder that no relay runs with."""
    try:
        add_entries(state, [entry])
    except OlderTables:
        click.echo("the history has no entry of this: relay.db is of an older relay, and the next start updates it")
    except (OSError, sqlite3.Error) as error:
        click.echo(f"the history cannot be written: {error}", err=True)


def headed(parts: Sequence[tuple[int, Sequence[str]]]) -> list[str]:
    """Lines on each worker, under a heading if there are several."""
    if len(parts) == 1:
        return [*parts[0][1]]
    return [line for worker, lines in parts for line in (f"worker {worker}:", *lines)]


def one_object(parts: Sequence[tuple[int, dict[str, Any]]], **whole: Any) -> str:
    """What is known of each worker as one JSON object: `whole` and their list if there are several."""
    if len(parts) > 1:
        found = whole | {"workers": [{"worker": worker} | part for worker, part in parts]}
    else:
        found = parts[0][1]
    return json.dumps(found, indent=2)


def tell_problems(found: Sequence[str]) -> None:
    """Say on standard error what could not be read."""
    for problem in found:
        click.echo(problem, err=True)
