"""Parked events: what is kept of each, and how admins look at them, drop them and have them replayed.

The functions here work on the databases of a state folder, those of all workers, whether relay runs or not; they raise
FileNotFoundError (no relay has run there), sqlite3.Error.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from relay.api import Event, Kind
from relay.journal.folders import DATABASE, worker_folders

VERSION: Final = 4
"""Of the database's tables (PRAGMA user_version)."""
LOCKED_S: Final = 10.0
"""How long to wait for another process's transaction."""
CAUSES: Final = ("unreadable", "filter", "refused", "too_large", "gave_up", "bug", "order")
"""Why an event is parked: unreadable at its source, a filter failed, the destination refused it or its size, or the
connector's `give_up_after` was over, with a destination that did not take it or a connector that has a bug; or it came
behind a parked one of its key."""


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that was put aside, and why."""

    source: str
    connector: str | None
    """None: parked at the source, it never got into the journal."""
    offset: int | None
    type: str | None
    cause: str
    """One of CAUSES."""
    reason: str
    """Of the last failure."""
    attempts: int
    body: bytes
    id_field: str = "id"
    time_field: str = "time"
    received: float = 0.0
    """Unix seconds at which relay had the event on disk."""
    number: int = 0
    """By which admins name it; the database gives it."""
    first: float = 0.0
    """Unix seconds since when it was tried in vain; 0: only now."""
    last: float = 0.0
    """Unix seconds of the last failure."""
    again: float | None = None
    """Unix seconds at which a replay was asked for; None if it was not."""
    status: int | None = None
    """Of the destination's answer to the last attempt, if it gave one over HTTP."""
    answer: str = ""
    """The first bytes of that answer's body, without secrets."""
    replay: int | None = None
    """The replay that parked it; None: the lane itself, and so its ledger counts it."""
    key: str | None = None
    """What it has to stay in order with, where its connector keeps an order."""

    @classmethod
    def of(
        cls,
        event: Event,
        connector: str,
        cause: str,
        reason: str,
        attempts: int,
        status: int | None = None,
        answer: str = "",
    ) -> "Parked":
        """Put an event aside for one connector."""
        kind = event.kind
        return cls(
            kind.source, connector, event.offset, kind.type, cause, reason, attempts, event.body,
            kind.id_field, kind.time_field, event.received, status=status, answer=answer,
        )  # fmt: skip

    @property
    def event(self) -> Event:
        """The event as the connector's lane had it. Raises ValueError for what was parked at a source."""
        if self.offset is None or self.type is None:
            raise ValueError("what was unreadable at its source is no event")
        kind = Kind(self.source, self.type, self.id_field, self.time_field)
        return Event(self.body, kind, self.offset, self.received)


FIELDS: Final = tuple(field.name for field in fields(Parked))


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which parked events: those for which everything holds that is given."""

    numbers: Sequence[int] = ()
    connector: str | None = None
    source: str | None = None
    cause: str | None = None
    since: float | None = None
    """Unix seconds: the last failure was then or later."""
    limit: int | None = None
    """The oldest so many."""

    def condition(self) -> tuple[str, list[Any]]:
        """The WHERE, ORDER and LIMIT of a query over `parked`, and its parameters."""
        equal = {"connector": self.connector, "source": self.source, "cause": self.cause}
        parts: list[tuple[str, Any]] = [(f"{name} = ?", value) for name, value in equal.items() if value is not None]
        if self.since is not None:
            parts.append(("last >= ?", self.since))
        if self.numbers:
            parts.append(("number IN (SELECT value FROM json_each(?))", f"[{','.join(map(str, self.numbers))}]"))
        where = " AND ".join(text for text, _ in parts) or "TRUE"
        limit = -1 if self.limit is None else self.limit
        return f"WHERE {where} ORDER BY number LIMIT ?", [*(value for _, value in parts), limit]


def parked(folder: Path) -> list[Parked]:
    """All parked events of a state folder, the oldest first."""
    return list(look_at_parked(folder, Which()))


def look_at_parked(folder: Path, which: Which) -> Iterator[Parked]:
    """Parked events one after the other, those of each worker from the oldest on."""
    for db, part in _each(folder, "ro", which):
        condition, values = part.condition()
        for row in db.execute(f"SELECT {', '.join(FIELDS)} FROM parked {condition}", values):  # noqa: S608
            yield Parked(*row)


def count_parked(folder: Path, which: Which) -> int:
    """How many parked events that are."""
    return sum(_count(db, part) for db, part in _each(folder, "ro", which))


def parked_counts(folder: Path) -> list[tuple[str, str | None, str, int]]:
    """How many events are parked: by source, connector (None: at the source) and cause."""
    found = Counter[tuple[str, str | None, str]]()
    for db, _ in _each(folder, "ro", Which()):
        for *which, events in db.execute("SELECT source, connector, cause, count(*) FROM parked GROUP BY 1, 2, 3"):
            found[tuple(which)] += events
    return [(*which, events) for which, events in found.items()]


def drop_parked(folder: Path, which: Which) -> int:
    """Remove parked events for good; return how many. In the ledger they stay parked."""
    return _change(folder, "DELETE FROM parked WHERE", which, [])


def mark_parked(folder: Path, which: Which) -> int:
    """Ask for a replay of parked events; return how many. Those parked at a source are left alone."""
    return _change(folder, "UPDATE parked SET again = ? WHERE connector IS NOT NULL AND", which, [time.time()])


def connect(folder: Path, mode: str) -> sqlite3.Connection:
    """Open the database of a state folder that some relay has run with: "ro" to look, "rw" to change."""
    path = folder / DATABASE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no relay has run with this state folder")
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=LOCKED_S, isolation_level=None)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        db.close()
        age = "an older relay; start this one with it once" if version < VERSION else "a newer relay"
        raise sqlite3.DatabaseError(f"{path} is of {age}")
    return db


def _each(folder: Path, mode: str, which: Which) -> Iterator[tuple[sqlite3.Connection, Which]]:
    """The database of each worker, and which of its parked events are meant."""
    left = which.limit
    for mine in worker_folders(folder).values():
        with closing(connect(mine, mode)) as db:
            part = replace(which, limit=left)
            left = None if left is None else left - _count(db, part)
            yield db, part


def _count(db: sqlite3.Connection, which: Which) -> int:
    condition, values = which.condition()
    (number,) = db.execute(f"SELECT count(*) FROM (SELECT 1 FROM parked {condition})", values).fetchone()  # noqa: S608
    return int(number)


def _change(folder: Path, what: str, which: Which, values: Sequence[float]) -> int:
    changed = 0
    for db, part in _each(folder, "rw", which):
        condition, more = part.condition()
        db.execute("PRAGMA synchronous = FULL")
        query = f"{what} number IN (SELECT number FROM parked {condition})"  # noqa: S608
        changed += db.execute(query, [*values, *more]).rowcount
    return changed
