"""The input and the findings of checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from relay.api import Secret
from relay.cli.client import find_running
from relay.config import Config, KeyPath, Loaded, Mistake, Registry, list_leaves
from relay.status import Status

if TYPE_CHECKING:
    from relay.cli.commands.doctor.unit import Unit

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, with advice if something is wrong."""

    level: Level
    about: str
    said: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is checked. Without a valid configuration `loaded` is None, and the defaults apply."""

    state: Path
    conf: Sequence[Path]
    """The folders of the configuration, but for the console's."""
    plugin_folders: Sequence[Path]
    registry: Registry
    loaded: Loaded | None
    mistakes: Sequence[Mistake]
    warnings: Sequence[Mistake]
    unit: "Unit | None"
    """The installed unit, if it is for this configuration."""

    @cached_property
    def running(self) -> Status | None:
        """The status of the running relay, read once; None without any. Raises click.ClickException, ClientError."""
        client = find_running(self.state)
        return msgspec.json.decode(client.read("GET", "/status"), type=Status) if client else None

    @property
    def config(self) -> Config:
        """Return the configuration; without a valid one, the defaults."""
        return self.loaded.config if self.loaded else Config()

    @property
    def secrets(self) -> list[tuple[KeyPath, Secret]]:
        """Return all references to secrets in enabled tables."""
        tables = self.loaded.tables.items() if self.loaded else ()
        used = [
            leaf
            for table, settings in tables
            if getattr(settings, "enabled", True)
            for leaf in list_leaves(table, settings)
        ]
        return [(path, leaf) for path, leaf in used if isinstance(leaf, Secret)]

    @property
    def journal(self) -> Path:
        """Return the journal's folder."""
        return self.state / self.config.journal.path


def find_existing(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def format_size(number: float) -> str:
    """Format a number of bytes for people."""
    return f"{number / (1 << 30):,.1f}GiB" if number >= 1 << 30 else f"{number / (1 << 20):,.0f}MiB"
