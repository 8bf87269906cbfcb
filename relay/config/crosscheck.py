"""What one table says about another, about the catalogue, and about secrets outside the configuration."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from relay.api import Secret
from relay.catalogue import Selection
from relay.config.merge import KeyPath, Merged
from relay.config.mistake import Mistake, closest
from relay.config.model import Configured

RESERVED_PATHS: Final = ("/healthz", "/readyz", "/openapi.yaml")
"""What the ingest listener itself answers."""

Tables = Mapping[str, Configured[Any, Any]]


def active(tables: Tables) -> dict[str, Configured[Any, Any]]:
    """Leave out what `enabled = false` switches off."""
    return {name: table for name, table in tables.items() if getattr(table.settings, "enabled", True)}


def missing_filters(connectors: Tables, merged: Merged) -> Iterator[Mistake]:
    """Find connectors that name a filter for which there is no table."""
    known = merged.named("filter")
    for connector in connectors.values():
        for number, name in enumerate(connector.settings.filters):
            if name not in known:
                path = ("connector", connector.name, "filters", number)
                yield merged.mistake(path, f"there is no [filter.{name}]", closest(name, known))


def path_clashes(sources: Tables, merged: Merged) -> Iterator[Mistake]:
    """Find sources on a path that another source or relay itself answers."""
    taken = dict.fromkeys(RESERVED_PATHS, "relay itself")
    for source in active(sources).values():
        path = source.settings.path
        if path in taken:
            yield merged.mistake(("source", source.name, "path"), f"{path} is taken already by {taken[path]}")
        taken.setdefault(path, f"[source.{source.name}]")


def unmatched_entries(connectors: Tables, merged: Merged) -> Iterator[Mistake]:
    """Find entries of `events` that match nothing known; a warning, for new types come monthly."""
    for connector in active(connectors).values():
        events = connector.settings.events
        for unmatched in Selection(events).warnings():
            path = ("connector", connector.name, "events", events.index(unmatched.entry))
            yield merged.mistake(path, f'"{unmatched.entry}" matches no known event type', unmatched.suggestion)


def idle(merged: Merged) -> Iterator[Mistake]:
    """Notice that nothing comes in, or nothing goes out, even if all tables were right."""
    for kind, lack in (("source", "take"), ("connector", "deliver")):
        if all(_is_off(table) for table in merged.named(kind).values()):
            yield Mistake(reason=f"no [{kind}.NAME] is enabled: relay will {lack} no events")


def _is_off(table: object) -> bool:
    return isinstance(table, dict) and table.get("enabled") is False


def unread_secrets(kind: str, tables: Tables, merged: Merged) -> Iterator[tuple[str, Secret, Mistake]]:
    """Find secrets that could not be read, each with the name of its table."""
    for table in tables.values():
        for path, secret in _secrets((kind, table.name), table.settings):
            if secret.problem is not None:
                yield table.name, secret, merged.mistake(path, secret.problem)


def is_only_elsewhere(secret: Secret) -> bool:
    """Tell whether systemd would give us the secret, and this process was not started by systemd."""
    return secret.how == "credential" and "CREDENTIALS_DIRECTORY" not in os.environ


def _secrets(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, Secret]]:
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        yield from _secrets(path, vars(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets((*path, key), inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _secrets((*path, number), inner)
