"""The options --state, --conf and --plugins: a state folder, and its configuration."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Final

import click

from relay.cli.options import conf_option, plugins_option, state_option, url_option
from relay.cli.output import Unwritten
from relay.config import (
    PLUGIN_FOLDERS,
    ConfFolders,
    Config,
    ConfigError,
    JournalSettings,
    Registry,
    find_folders,
    load,
    load_journal,
)
from relay.engine import open_store
from relay.store import Entry, Store, Unavailable
from relay.words import describe_error

OTHER: Final = "--conf DIR names the configuration of a cluster in PostgreSQL, and --state DIR another state folder"


@dataclass(frozen=True)
class StateOptions:
    """The given options."""

    state: Path
    conf: Path | None = None
    plugin_folders: Sequence[Path] = ()

    @cached_property
    def config(self) -> Config | None:
        """The configuration on disk, if it is valid; read when it is needed."""
        try:
            registry = Registry.discover(self.plugin_folders or PLUGIN_FOLDERS)
            return load(self._folders, registry, secrets_required=False).config
        except ConfigError as error:
            if self.conf:
                said = f"{self.conf} is left out of account: {error.mistakes[0]} (see relay check)"
                click.echo(f"warning: {said}", err=True)
            return None

    @cached_property
    def journal(self) -> JournalSettings:
        """The settings of the journal by the configuration on disk. Without a valid one, the defaults of the embedded
        journal stand in. Raises ConfigError for wrong settings of a journal in PostgreSQL."""
        return self.config.journal if self.config else load_journal(self._folders)

    @cached_property
    def store(self) -> Store:
        """The store by the settings of the journal."""
        return open_store(self.state, self.journal)

    @property
    def _folders(self) -> ConfFolders:
        return find_folders(self.conf, self.state)

    def check_embedded(self, tools: str) -> None:
        """Raise click.ClickException if the journal has no files. `tools`: what to use instead."""
        if self.journal.backend != "embedded":
            raise click.ClickException(f"the events are in the database; use its own tools: {tools}")

    @property
    def path(self) -> Path:
        """The setting `journal.path`."""
        return self.config.journal.path if self.config else Path("journal")


def add_places(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for a state folder, or for a relay elsewhere, and pass them as the first argument."""
    return url_option(add_local_places(command))


def add_local_places(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for commands that work in the folder alone."""

    @wraps(command)
    def placed(*, conf: Path | None, state: Path, plugin_folders: tuple[Path, ...], **options: Any) -> None:
        with convert_errors():
            try:
                command(StateOptions(state, conf, plugin_folders), **options)
            except Unavailable as error:
                if conf or error.reason != "missing" or not str(error).startswith(str(state)):
                    raise
                raise Unavailable(f"{error} ({OTHER})", error.reason) from error

    return conf_option(state_option(plugins_option(placed)))


@contextmanager
def convert_errors() -> Iterator[None]:
    """Report what cannot be read without a traceback."""
    try:
        yield
    except Unwritten:  # `main` says it
        raise
    except PermissionError as error:
        said = f"{error.filename} may not be read by this user: be root, or the user that relay runs as"
        raise click.ClickException(said) from None
    except OSError as error:
        raise click.ClickException(describe_error(error)) from None


def note_history(store: Store, entry: Entry) -> None:
    """Write what a command has done into the history of a store without a running relay."""
    try:
        store.history.add([entry])
    except Unavailable as error:
        if error.reason == "older":
            click.echo("the history has no entry of this: relay.db is of an older relay, and the next start updates it")
        else:
            click.echo(f"the history cannot be written: {error}", err=True)


def add_headings(parts: Sequence[tuple[int, Sequence[str]]], name: Callable[[int], str]) -> list[str]:
    """Return the lines of each worker, under a heading if there are several. `name` names a worker."""
    if len(parts) == 1:
        return [*parts[0][1]]
    return [line for worker, lines in parts for line in (f"{name(worker)}:", *lines)]


def encode_workers(parts: Sequence[tuple[int, dict[str, Any]]], **whole: Any) -> str:
    """Encode the findings of the workers as one JSON object: `whole` and their list if there are several."""
    if len(parts) > 1:
        found = whole | {"workers": [{"worker": worker} | part for worker, part in parts]}
    else:
        found = parts[0][1]
    return json.dumps(found, indent=2)


def tell_problems(found: Sequence[str]) -> None:
    """Report on standard error what could not be read."""
    for problem in found:
        click.echo(problem, err=True)
