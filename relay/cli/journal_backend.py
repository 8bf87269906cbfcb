"""What is to be known of a whole journal, as commands see it: the relay that runs with a state folder has it read, by a
process of its own; else it is read here. Both ways end in the same functions of `relay.journal`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlencode

import click
import msgspec

from relay.admin import DEADLINE_S
from relay.api import User
from relay.cli.client import Client, running
from relay.cli.state_options import StateOptions
from relay.inspect import (
    Audit,
    Check,
    DumpPart,
    Remains,
    ReplayCount,
    Stretch,
    Trace,
    WholeAudit,
    audit_all,
    check_all,
    count_all,
    dump_all,
    look_for,
    search_all,
    traced,
)

READING_S: Final = DEADLINE_S + 30
"""Relay says it itself if it takes too long."""


class JournalBackend(Protocol):
    """What can be asked. All of it raises click.ClickException, OSError, sqlite3.Error."""

    def audit(self) -> Audit:
        """Whether anything has vanished."""

    def check(self) -> Check:
        """Whether the journal is whole."""

    def trace(self, id: str) -> Trace:
        """Where an event is, and what becomes of it."""

    def dump(self, part: DumpPart) -> Iterator[bytes]:
        """The events of a part of the journal as lines of NDJSON."""

    def count(self, asked: Stretch) -> ReplayCount:
        """What a replay would take."""

    def remains(self, user: User) -> Remains:
        """What there still is of a user."""


def reading_of(place: StateOptions) -> JournalBackend:
    """The one to use. Raises click.ClickException if a relay runs that may not be asked."""
    client = running(place.state)
    return _Here(place) if client is None else _Asked(client)


class _Here:
    """Without a relay that runs."""

    def __init__(self, place: StateOptions) -> None:
        self._config = place.config
        self._folders: tuple[Path, Path] = (place.state, place.path)

    def audit(self) -> Audit:
        return audit_all(*self._folders, self._config.kept_for if self._config else None)

    def check(self) -> Check:
        return check_all(*self._folders)

    def trace(self, id: str) -> Trace:
        return traced(id, search_all(*self._folders, id), self._config)

    def dump(self, part: DumpPart) -> Iterator[bytes]:
        return dump_all(*self._folders, part)

    def count(self, asked: Stretch) -> ReplayCount:
        try:
            settings = self._config.connector(asked.connector) if self._config else None
            within = self._config.entries(asked.connector) if self._config else None
            found = count_all(*self._folders, asked, within)
        except LookupError as error:
            raise click.ClickException(error.args[0]) from None
        return ReplayCount(settings.rate if settings else 0.0, found)

    def remains(self, user: User) -> Remains:
        return look_for(*self._folders, user)


class _Asked:
    """Through the admin API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def audit(self) -> Audit:
        found = self._client.ask("GET", "/audit", timeout=READING_S)
        return msgspec.convert(found, WholeAudit if "workers" in found else Audit)

    def check(self) -> Check:
        return msgspec.json.decode(self._client.read("GET", "/journal", timeout=READING_S), type=Check)

    def trace(self, id: str) -> Trace:
        query = urlencode({"id": id})
        return msgspec.json.decode(self._client.read("GET", f"/trace?{query}", timeout=READING_S), type=Trace)

    def dump(self, part: DumpPart) -> Iterator[bytes]:
        given = {name: value for name, value in asdict(part).items() if value is not None}
        return self._client.lines(f"/journal/events?{urlencode(given, doseq=True)}", READING_S)

    def count(self, asked: Stretch) -> ReplayCount:
        found = self._client.read("POST", "/replays/count", asked, timeout=READING_S)
        return msgspec.json.decode(found, type=ReplayCount)

    def remains(self, user: User) -> Remains:
        found = self._client.read("POST", "/erasures/check", user, timeout=READING_S)
        return msgspec.json.decode(found, type=Remains)
