"""Parked events: what is kept of each, and how admins look at them, drop them and have them replayed.

The functions here work on the databases of a state folder, those of all workers, whether relay runs or not; they raise
FileNotFoundError (no relay has run there), sqlite3.Error.
"""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from relay.api import Event, Kind
from relay.state.database_file import give_back, open_in_steps
from relay.state.layout import DATABASE, worker_folders
from relay.state.parked_limits import BYTES, ROWS, SIZE, Reason, take_first

T = TypeVar("T")
VERSION: Final = 12
"""Of the database's tables (PRAGMA user_version)."""
LOCKED_S: Final = 10.0
"""How long to wait for another process's transaction."""
PAUSE_S: Final = 0.1
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
    part: int = 0
    """Which part of the event it is, from 0, if filters of the connector have split that."""

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
            kind.id_field, kind.time_field, event.received, status=status, answer=answer, part=event.part,
        )  # fmt: skip

    @property
    def event(self) -> Event:
        """The event as the connector's lane had it. Raises ValueError for what was parked at a source."""
        if self.offset is None or self.type is None:
            raise ValueError("what was unreadable at its source is no event")
        kind = Kind(self.source, self.type, self.id_field, self.time_field)
        return Event(self.body, kind, self.offset, self.received, self.part)


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
        """The condition of a query over `parked` but for `limit`, and its parameters."""
        equal = {"connector": self.connector, "source": self.source, "cause": self.cause}
        parts: list[tuple[str, Any]] = [(f"{name} = ?", value) for name, value in equal.items() if value is not None]
        if self.since is not None:
            parts.append(("last >= ?", self.since))
        if self.numbers:
            parts.append(("number IN (SELECT value FROM json_each(?))", f"[{','.join(map(str, self.numbers))}]"))
        return " AND ".join(text for text, _ in parts) or "TRUE", [value for _, value in parts]

    @property
    def is_counted(self) -> bool:
        """Whether `parked_total` says how many events that are."""
        return self.since is None and not self.numbers


SETTINGS: Final[dict[Reason, str]] = {
    "retention": "parked.retention",
    "max_size": "parked.max_size",
    "min_free": "journal.min_free",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedTotal:
    """What lies parked of one source, for one connector and cause."""

    source: str
    connector: str | None
    """None: at the source."""
    cause: str
    events: int = 0
    bytes: int = 0
    """About what they take in the database."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """Events that relay has removed by itself, ever, by the setting that had it do so: `parked.retention`,
    `parked.max_size` or `journal.min_free`."""

    @property
    def removed_for_room(self) -> int:
        """Those of them that were not too old."""
        return sum(events for setting, events in self.removed.items() if setting != "parked.retention")

    def __add__(self, other: "ParkedTotal") -> "ParkedTotal":
        removed = dict(Counter(self.removed) + Counter(other.removed))
        return replace(self, events=self.events + other.events, bytes=self.bytes + other.bytes, removed=removed)


def list_parked(folder: Path) -> list[Parked]:
    """Return all parked events of a state folder, the oldest first."""
    return list(read_parked(folder, Which()))


def read_parked(folder: Path, which: Which, *, bodies: bool = True) -> Iterator[Parked]:
    """Read parked events, those of each worker from the oldest on; without `bodies` their bodies are empty.

    Reads in portions: a slow caller has few events in memory, and holds up nobody."""
    for db, part in _each(folder, "ro", which):
        after, left = 0, part.limit
        while portion := _portion(db, part, after, left, bodies=bodies):
            yield from portion
            after, left = portion[-1].number, None if left is None else left - len(portion)


def find_parked_at(folder: Path, offsets: Sequence[int]) -> list[Parked]:
    """Find what one worker's connectors have parked of the events at these offsets, a thousand entries at most."""
    columns = ", ".join(name if name != "body" else "x''" for name in FIELDS)
    query = f"""
        SELECT {columns} FROM parked
        WHERE connector IN (SELECT connector FROM cursor) AND offset IN (SELECT value FROM json_each(?)) LIMIT 1000
    """  # noqa: S608
    with closing(connect(folder, "ro")) as db:
        return [Parked(*row) for row in db.execute(query, (json.dumps([*offsets]),))]


def count_parked(folder: Path, which: Which) -> int:
    """Return the number of these parked events."""
    return sum(_count(db, part) for db, part in _each(folder, "ro", which))


def read_parked_totals(folder: Path) -> list[ParkedTotal]:
    """Read what lies parked in a state folder, by source, connector and cause, and what was removed of it."""
    return sum_totals(one for mine in worker_folders(folder).values() for one in read_worker_totals(mine))


def read_worker_totals(folder: Path) -> list[ParkedTotal]:
    """Read the totals of one worker's folder."""
    with closing(connect(folder, "ro")) as db:
        lying = db.execute("SELECT source, connector, cause, events, bytes FROM parked_total").fetchall()
        gone = db.execute("SELECT source, connector, cause, reason, events FROM parked_removed").fetchall()
    return sum_totals(
        [ParkedTotal(source=s, connector=c or None, cause=why, events=n, bytes=size) for s, c, why, n, size in lying]
        + [ParkedTotal(source=s, connector=c or None, cause=why, removed={SETTINGS[r]: n}) for s, c, why, r, n in gone]
    )


def sum_totals(parts: Iterable[ParkedTotal]) -> list[ParkedTotal]:
    """Sum totals of the same source, connector and cause."""
    found: dict[tuple[str, str | None, str], ParkedTotal] = {}
    for one in parts:
        key = one.source, one.connector, one.cause
        found[key] = found[key] + one if key in found else one
    return [one for one in found.values() if one.events or one.removed]


def drop_parked(folder: Path, which: Which) -> int:
    """Remove parked events for good; return how many. In the ledger they stay parked."""
    return sum(drop_in_portions(folder, which))


def drop_in_portions(folder: Path, which: Which) -> Iterator[int]:
    """The same a portion at a time, each a transaction: how many went. At the end the file shrinks."""
    yield from _change(folder, "DELETE FROM parked WHERE", which, [])
    with suppress(sqlite3.OperationalError):  # they are gone all the same, and a relay that runs goes on with this
        for db, _ in _each(folder, "rw", Which()):
            for _ in run_unhurried(give_back(db)):
                yield 0


def mark_parked(folder: Path, which: Which) -> int:
    """Ask for a replay of parked events; return how many. Those parked at a source are left alone."""
    return sum(mark_in_portions(folder, which))


def mark_in_portions(folder: Path, which: Which) -> Iterator[int]:
    """The same a portion at a time, each a transaction: how many were marked."""
    return _change(folder, "UPDATE parked SET again = ? WHERE connector IS NOT NULL AND", which, [time.time()])


class OlderTables(sqlite3.DatabaseError):
    """A database has the tables of an older relay. A start of this relay brings them up to date."""


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
        if version < VERSION:
            raise OlderTables(f"{path} is of an older relay; start the newer relay with it once")
        raise sqlite3.DatabaseError(f"{path} is of a newer relay")
    return db


def _each(folder: Path, mode: str, which: Which) -> Iterator[tuple[sqlite3.Connection, Which]]:
    """The database of each worker, and which of its parked events are meant."""
    left = which.limit
    for mine in worker_folders(folder).values():
        with closing(connect(mine, mode)) as db:
            part = replace(which, limit=left)
            left = None if left is None else left - _count(db, part)
            yield db, part


def _portion(db: sqlite3.Connection, which: Which, after: int, left: int | None, *, bodies: bool) -> list[Parked]:
    """The next few parked events behind the one with the number `after`; `left`: how many more at most."""
    condition, values = which.condition()
    columns = ", ".join(name if bodies or name != "body" else "x''" for name in FIELDS)
    query = f"SELECT {columns} FROM parked NOT INDEXED WHERE number > ? AND {condition} ORDER BY number LIMIT ?"  # noqa: S608
    found: list[Parked] = []
    room = BYTES
    with closing(db.execute(query, [after, *values, ROWS if left is None else min(ROWS, left)])) as rows:
        for row in rows:
            found.append(Parked(*row))
            room -= len(found[-1].body)
            if room < 0:
                break
    return found


def _count(db: sqlite3.Connection, which: Which) -> int:
    condition, values = which.condition()
    if which.is_counted:
        query = f"SELECT coalesce(sum(events), 0) FROM parked_total WHERE {condition}"  # noqa: S608
    else:
        query = f"SELECT count(*) FROM parked WHERE {condition}"  # noqa: S608
    (number,) = db.execute(query, values).fetchone()
    return int(number) if which.limit is None else min(int(number), which.limit)


def _change(folder: Path, what: str, which: Which, values: Sequence[float]) -> Iterator[int]:
    """Change parked events that there are now, a portion at a time; others have as much time in between."""
    for db, part in _each(folder, "rw", which):
        open_in_steps(db)
        db.execute("PRAGMA synchronous = FULL")
        yield from run_unhurried(_change_one(db, what, part, values))


def _change_one(db: sqlite3.Connection, what: str, which: Which, values: Sequence[float]) -> Iterator[int]:
    condition, more = which.condition()
    where = f"number > ? AND number <= ? AND {condition} ORDER BY number LIMIT ?"
    query = f"SELECT number, {SIZE} FROM parked NOT INDEXED WHERE {where}"  # noqa: S608
    (newest,) = db.execute("SELECT coalesce(max(number), 0) FROM parked").fetchone()
    after, left = 0, ROWS if which.limit is None else which.limit
    while numbers := take_first(db.execute(query, [after, newest, *more, min(ROWS, left)]).fetchall(), BYTES):
        some = "number IN (SELECT value FROM json_each(?))"
        changed = db.execute(f"{what} {some}", [*values, json.dumps(numbers)])
        yield changed.rowcount
        after, left = numbers[-1], left if which.limit is None else left - len(numbers)


def run_unhurried(steps: Iterator[T]) -> Iterator[T]:
    """Run steps that keep others from the database, with pauses as long as the steps, in which those get their turn."""
    began = time.monotonic()
    for step in steps:
        yield step
        time.sleep(min(time.monotonic() - began, PAUSE_S))
        began = time.monotonic()
