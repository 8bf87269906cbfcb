"""What a reload of the configuration comes to: told to whoever asked for it, and to the log. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from relay.config import Config
from relay.config.model import OWN_TABLES
from relay.deliver import Changes

AT_START: Final = {"ingest.listen", "journal.path", "runtime.workers"}
"""Settings that are what they were at the start."""
TABLES_AT_START: Final = ("admin", "metrics", "log")
NOTHING: Final = "nothing has changed"
GONE: Final = "removed; its path answers 404 now, which ends in Braze disabling a Current"
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The outcome of a reload."""

    ok: bool
    """Whether the new configuration is in force; if not, the old one is, and all of it."""
    said: Sequence[str]
    """For people: what has changed, what is to be feared of it; or every mistake, with file and line."""


def refused(mistakes: Sequence[object]) -> Reloaded:
    """The new configuration does not come into force."""
    said = [*map(str, mistakes)]
    log.error("configuration not reloaded, the old one goes on", mistakes=said)
    return Reloaded(ok=False, said=said)


def reloaded(old: Config, new: Config, changes: Changes) -> Reloaded:
    """The new configuration is in force."""
    said = [*_connectors(changes), *_sources(old.sources, new.sources), *settings(old, new)]
    said += [f"warning: {doubt}" for doubt in changes.doubts]
    log.info("configuration reloaded", changes=said)
    return Reloaded(ok=True, said=said or [NOTHING])


def _connectors(changes: Changes) -> Iterator[str]:
    for what, names in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        yield from (f"connector {name}: {what}" for name in names)


def _sources(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"warning: source {name}: {GONE}"
        elif name not in old:
            yield f"source {name}: added"
        elif old[name] != new[name]:
            yield f"source {name}: changed"


def settings(old: Config, new: Config) -> Iterator[str]:
    """The daemon's own settings that are others now, and whether they are in force."""
    for table in OWN_TABLES:
        before, after = vars(getattr(old, table)), vars(getattr(new, table))
        for key in after:
            if before[key] != after[key]:
                yield _setting(f"{table}.{key}", table, switched=None in (before[key], after[key]))


def _setting(name: str, table: str, *, switched: bool) -> str:
    if name in AT_START or table in TABLES_AT_START or (name == "ingest.tls" and switched):
        return f"{name}: takes a restart"
    return f"{name}: changed"
