"""What a reload of the configuration comes to: told to whoever asked for it, and to the log. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from relay.config import Config
from relay.deliver import Changes

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
    said = [*_said(changes), *(f"takes a restart: {what}" for what in needs_restart(old, new))]
    log.info("configuration reloaded", changes=said)
    return Reloaded(ok=True, said=said or ["nothing has changed"])


def _said(changes: Changes) -> Iterator[str]:
    for what, names in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        yield from (f"connector {name}: {what}" for name in names)
    yield from (f"warning: {doubt}" for doubt in changes.doubts)


def needs_restart(old: Config, new: Config) -> Iterator[str]:
    """The settings that are others now but stay as they were until the next start."""
    for table, setting in (("ingest", "listen"), ("journal", "path"), ("runtime", "workers")):
        if getattr(getattr(old, table), setting) != getattr(getattr(new, table), setting):
            yield f"{table}.{setting}"
    if (old.ingest.tls is None) != (new.ingest.tls is None):
        yield "ingest.tls"
    for table in ("admin", "metrics", "log"):
        if getattr(old, table) != getattr(new, table):
            yield table
