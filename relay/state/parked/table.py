"""The table `parked` of relay.db: reads, drops and replays parked events (dead letters).

Functions with a folder read one worker's database, whether relay runs or not. They raise FileNotFoundError if no relay
has run there, sqlite3.Error. Functions with a database are parts of transactions.
"""

import json
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import closing, suppress
from itertools import chain, islice, starmap
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.structs import asdict, replace

from relay.state.cursor import read_saved_connectors
from relay.state.database_file import connect, convert_errors, enable_shrinking, shrink_in_steps
from relay.state.layout import list_worker_folders
from relay.state.parked.totals import count_removed, count_stored, read_worker_totals
from relay.store import (
    GROUP_FIELDS,
    MOST_GROUPS,
    PARKED_FIELDS,
    PORTION_BYTES,
    PORTION_EVENTS,
    ROW_BYTES,
    Parked,
    ParkedGroup,
    ParkedQuery,
    ParkedRow,
    ParkedTotal,
    Reason,
    RemovedParked,
    choose_first,
    find_partition,
    order_newest,
    sum_groups,
    sum_totals,
)

T = TypeVar("T")
PAUSE_S: Final = 0.1
BEHIND_ALL: Final = (1 << 63) - 1
"""The highest number."""
_WITHOUT_BODY: Final = ", ".join(name if name != "body" else "x''" for name in PARKED_FIELDS)
SIZE: Final = f"{ROW_BYTES} + length(body) + length(reason) + length(answer) + ifnull(length(key), 0)"
"""Bytes of a parked event; `schema.sql` counts them in the same way."""
_STORED: Final = [name for name in PARKED_FIELDS if name != "number"]
_KEPT: Final = ("attempts", "first", "again", "replay")
"""Columns of an event that is parked again. It is still replayed if that was requested after the attempt."""
_PARK: Final = f"""
    INSERT INTO parked ({", ".join(_STORED)}) VALUES ({", ".join(f":{name}" for name in _STORED)})
    ON CONFLICT (connector, offset, part) DO UPDATE SET attempts = attempts + excluded.attempts,
    again = iif(again > excluded.first, again, NULL),
    {", ".join(f"{name} = excluded.{name}" for name in _STORED if name not in _KEPT)}
    RETURNING number
"""  # noqa: S608
_LET_GO: Final = "DELETE FROM parked WHERE connector = ? AND offset = ? AND part = ? AND attempts = ?"
_MARKED: Final = f"""
    SELECT {", ".join(PARKED_FIELDS)} FROM parked AS one
    WHERE connector = :connector AND (again IS NOT NULL OR cause = 'order') AND NOT EXISTS (
        SELECT 1 FROM parked WHERE connector = one.connector AND key = one.key AND offset <= one.offset
        AND (offset, part) < (one.offset, one.part)
    )
    AND (:among IS NULL OR offset IN (SELECT value FROM json_each(:among)))
    ORDER BY offset, part LIMIT :events
"""  # noqa: S608
_REMOVE: Final = f"""
    DELETE FROM parked WHERE number IN (SELECT value FROM json_each(?))
    RETURNING source, connector, cause, last, {SIZE}
"""  # noqa: S608


class FolderParked:
    """The parked events of a state folder: in the databases of all workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(
        self, which: ParkedQuery, *, bodies: bool = True, newest: bool = False, after: int | None = None
    ) -> Iterator[Parked]:
        folders = list_worker_folders(self._folder)

        def read_worker(number: int, behind: int | None) -> Iterator[Parked]:
            part = replace(which, limit=None) if newest else which
            return _read_worker(folders[number], part, behind, bodies=bodies, newest=newest)

        def find_last(number: int) -> float | None:
            worker = find_partition(number)
            return _find_last(folders[worker], number) if worker in folders else None

        own = 0 if after is None else find_partition(after)
        found = (
            order_newest(read_worker, folders, after, own, find_last)
            if newest
            else chain.from_iterable(read_worker(number, after) for number in folders)
        )
        with convert_errors():
            yield from islice(found, which.limit)

    @convert_errors()
    def read_groups(self, which: ParkedQuery) -> list[ParkedGroup]:
        return sum_groups(row for db, _ in _open_each(self._folder, "ro", which) for row in _read_groups(db, which))

    @convert_errors()
    def read_totals(self) -> list[ParkedTotal]:
        folders = list_worker_folders(self._folder).values()
        return sum_totals(one for mine in folders for one in read_worker_totals(mine))

    @convert_errors()
    def count(self, which: ParkedQuery) -> int:
        return sum(_count(db, part) for db, part in _open_each(self._folder, "ro", which))

    def drop(self, which: ParkedQuery) -> Iterator[int]:
        yield from self._change_in_portions("DELETE FROM parked WHERE", which, [])
        with convert_errors(), suppress(sqlite3.OperationalError):  # a relay that runs goes on with this
            for db, _ in _open_each(self._folder, "rw", ParkedQuery()):
                for _ in run_unhurried(shrink_in_steps(db)):
                    yield 0

    def mark(self, which: ParkedQuery) -> Iterator[int]:
        what = "UPDATE parked SET again = ? WHERE connector IS NOT NULL AND"
        return self._change_in_portions(what, which, [time.time()])

    def _change_in_portions(self, what: str, which: ParkedQuery, values: Sequence[float]) -> Iterator[int]:
        """Change the present parked events in portions. Others get as much time in between."""
        with convert_errors():
            for db, part in _open_each(self._folder, "rw", which):
                enable_shrinking(db)
                db.execute("PRAGMA synchronous = FULL")
                yield from run_unhurried(_change_worker(db, what, part, values))


def find_parked_at(folder: Path, offsets: Sequence[int]) -> list[Parked]:
    """Find the parked events at these offsets of one worker, a thousand entries at most."""
    query = f"""
        SELECT {_WITHOUT_BODY} FROM parked
        WHERE connector IN (SELECT value FROM json_each(?)) AND offset IN (SELECT value FROM json_each(?)) LIMIT 1000
    """  # noqa: S608
    with closing(connect(folder, "ro")) as db:
        chosen = json.dumps(read_saved_connectors(db)), json.dumps([*offsets])
        return [Parked(*row) for row in db.execute(query, chosen)]


def read_parked_offsets(folder: Path) -> Mapping[str, Sequence[int]]:
    """Read the offsets at which lanes have parked anything, by connector. Replays have ledgers of their own.

    Raises FileNotFoundError, sqlite3.Error.
    """
    query = """
        SELECT DISTINCT connector, offset FROM parked WHERE connector IS NOT NULL AND replay IS NULL
        ORDER BY connector, offset
    """
    found: dict[str, MutableSequence[int]] = {}
    with closing(connect(folder, "ro")) as db:
        for connector, offset in db.execute(query):
            found.setdefault(connector, array("q")).append(offset)  # a million take no more than 8 MB
    return found


def add_parked(db: sqlite3.Connection, one: Parked, now: float) -> int:
    """Park an event that was tried at `now` (Unix seconds); return its number, the old one if it was parked before."""
    row = asdict(one) | {"first": one.first or now, "last": now}
    return int(db.execute(_PARK, row).fetchone()[0])


def delete_delivered(db: sqlite3.Connection, delivered: Iterable[Parked]) -> None:
    """Delete parked events that were delivered. An event stays if it has failed since it was read."""
    rows = [(one.connector, one.offset, one.part, one.attempts) for one in delivered]
    db.executemany(_LET_GO, rows)


def delete_parked(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Delete the parked events with these numbers."""
    db.executemany("DELETE FROM parked WHERE number = ?", [(number,) for number in numbers])


def read_marked(
    db: sqlite3.Connection, connector: str, events: int, size: int, offsets: Sequence[int] | None
) -> list[Parked]:
    """Read the parked events that a connector is to get again, as `StateDatabase.read_marked`."""
    among = None if offsets is None else json.dumps(offsets)
    found: list[Parked] = []
    room = size
    for one in starmap(Parked, db.execute(_MARKED, {"connector": connector, "events": events, "among": among})):
        room -= len(one.body)
        if found and room < 0:
            break
        found.append(one)
    return found


def has_marked(db: sqlite3.Connection) -> bool:
    """Return whether a requested replay of a parked event is not done."""
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM parked WHERE again IS NOT NULL)").fetchone()[0])


def read_places(db: sqlite3.Connection, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
    """Read offset and part of what a lane, not a replay, has parked at these offsets."""
    query = """
        SELECT offset, part FROM parked
        WHERE connector = ? AND replay IS NULL AND offset IN (SELECT value FROM json_each(?))
    """
    return {*db.execute(query, (connector, json.dumps([*offsets])))}


def read_keys(db: sqlite3.Connection, connector: str, but: Sequence[int]) -> set[str]:
    """Read the ordering keys of a connector's parked events, without the events of these numbers."""
    query = """
        SELECT DISTINCT key FROM parked WHERE connector = ? AND key IS NOT NULL
        AND number NOT IN (SELECT value FROM json_each(?))
    """
    return {key for (key,) in db.execute(query, (connector, json.dumps([*but])))}


def read_ranges(db: sqlite3.Connection, connector: str, ranges: Sequence[tuple[int, int]]) -> list[Parked]:
    """Read what a lane, not a replay, has parked in these ranges, without the bodies."""
    query = f"""
        SELECT {_WITHOUT_BODY} FROM parked WHERE connector = ? AND replay IS NULL AND offset >= ? AND offset < ?
    """  # noqa: S608
    return [Parked(*row) for start, stop in ranges for row in db.execute(query, (connector, start, stop))]


def read_rows(db: sqlite3.Connection, connector: str | None) -> Iterator[ParkedRow]:
    """Yield the fields that may name a user, for each parked event of a connector; None: of the sources."""
    query = f"SELECT {', '.join(ParkedRow._fields)} FROM parked WHERE connector IS ? ORDER BY number"  # noqa: S608
    return map(ParkedRow._make, db.execute(query, (connector,)))


def read_bodies(db: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the body of every parked event."""
    return (body for (body,) in db.execute("SELECT body FROM parked"))


def change_parked(db: sqlite3.Connection, column: str, value: object, number: int) -> None:
    """Change a column of a parked event."""
    db.execute(f"UPDATE parked SET {column} = ? WHERE number = ?", (value, number))  # noqa: S608


def detach_from_journal(db: sqlite3.Connection) -> None:
    """Give parked events offsets outside the journal, because their own mean other events now."""
    db.execute("UPDATE parked SET offset = -number WHERE connector NOT NULL")


def read_parked_connectors(db: sqlite3.Connection) -> set[str]:
    """Read the connectors that have parked events."""
    rows = db.execute("SELECT DISTINCT connector FROM parked WHERE connector NOT NULL")
    return {connector for (connector,) in rows}


def find_old(db: sqlite3.Connection, before: float) -> list[tuple[int, int]]:
    """Return number and size of parked events that failed last before a time (Unix seconds), the oldest first.

    Events that are to be replayed are left out.
    """
    return _find(db, "last < ? AND again IS NULL", (before,))


def find_unreadable(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return number and size of events that were parked at a source, the oldest first."""
    return _find(db, "connector IS NULL")


def find_unmarked(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return number and size of parked events, the oldest first, except those that are to be replayed."""
    return _find(db, "again IS NULL")


def _find(db: sqlite3.Connection, condition: str, values: Sequence[float] = ()) -> list[tuple[int, int]]:
    query = f"SELECT number, {SIZE} FROM parked WHERE {condition} ORDER BY last LIMIT {PORTION_EVENTS}"  # noqa: S608
    return db.execute(query, values).fetchall()


def remove_parked(db: sqlite3.Connection, numbers: Sequence[int], reason: Reason) -> list[RemovedParked]:
    """Remove the parked events with these numbers, and count them in `parked_removed` under a setting."""
    rows = db.execute(_REMOVE, (json.dumps(numbers),)).fetchall()
    gone = [
        RemovedParked(source, connector, cause, last, size, reason) for source, connector, cause, last, size in rows
    ]
    count_removed(db, [(one.source, one.connector, one.cause) for one in gone], reason)
    return gone


def _open_each(folder: Path, mode: str, which: ParkedQuery) -> Iterator[tuple[sqlite3.Connection, ParkedQuery]]:
    """Open the database of each worker; yield it with the query for its parked events."""
    left = which.limit
    for mine in list_worker_folders(folder).values():
        with closing(connect(mine, mode)) as db:
            part = replace(which, limit=left)
            left = None if left is None else left - _count(db, part)
            yield db, part


def _make_condition(which: ParkedQuery) -> tuple[str, list[Any]]:
    """Return the SQL condition of a query over `parked` without `limit`, and its parameters."""
    compared = {
        "connector = ?": which.connector, "source = ?": which.source, "cause = ?": which.cause,
        "ifnull(type, '') = ?": which.type, "reason = ?": which.reason,
        "last >= ?": which.since, "last <= ?": which.until,
    }  # fmt: skip
    parts: list[tuple[str, Any]] = [(text, value) for text, value in compared.items() if value is not None]
    if which.numbers:
        parts.append(("number IN (SELECT value FROM json_each(?))", f"[{','.join(map(str, which.numbers))}]"))
    return " AND ".join(text for text, _ in parts) or "TRUE", [value for _, value in parts]


def _read_worker(
    folder: Path, which: ParkedQuery, behind: int | None, *, bodies: bool, newest: bool
) -> Iterator[Parked]:
    """Yield the events of a worker behind a number, up or down."""
    left = which.limit
    with closing(connect(folder, "ro")) as db:
        while portion := _read_portion(db, which, behind, left, bodies=bodies, newest=newest):
            yield from portion
            behind, left = portion[-1].number, None if left is None else left - len(portion)


def _read_portion(
    db: sqlite3.Connection, which: ParkedQuery, behind: int | None, left: int | None, *, bodies: bool, newest: bool
) -> list[Parked]:
    """Read the next few parked events behind a number, up or down. `left`: the most that may follow."""
    condition, values = _make_condition(which)
    columns = ", ".join(PARKED_FIELDS) if bodies else _WITHOUT_BODY
    where = f"number {'<' if newest else '>'} ? AND {condition} ORDER BY number {'DESC' if newest else ''} LIMIT ?"
    query = f"SELECT {columns} FROM parked NOT INDEXED WHERE {where}"  # noqa: S608
    start = (BEHIND_ALL if newest else 0) if behind is None else behind
    found: list[Parked] = []
    room = PORTION_BYTES
    with closing(
        db.execute(query, [start, *values, PORTION_EVENTS if left is None else min(PORTION_EVENTS, left)])
    ) as rows:
        for row in rows:
            found.append(Parked(*row))
            room -= len(found[-1].body)
            if room < 0:
                break
    return found


def _find_last(folder: Path, number: int) -> float | None:
    """Find the last failure of the event with this number, or of the next one; None without any."""
    with closing(connect(folder, "ro")) as db:
        row = db.execute("SELECT last FROM parked WHERE number >= ? ORDER BY number LIMIT 1", (number,)).fetchone()
    return None if row is None else float(row[0])


def _read_groups(db: sqlite3.Connection, which: ParkedQuery) -> Iterator[Sequence[Any]]:
    condition, values = _make_condition(which)
    same = ", ".join(GROUP_FIELDS)
    query = f"""
        SELECT {same}, count(*) AS events, min(first), max(last) FROM parked NOT INDEXED WHERE {condition}
        GROUP BY {same} ORDER BY events DESC LIMIT {MOST_GROUPS}
    """  # noqa: S608
    return db.execute(query, values)


def _count(db: sqlite3.Connection, which: ParkedQuery) -> int:
    condition, values = _make_condition(which)
    if which.is_counted:
        number = count_stored(db, condition, values)
    else:
        (number,) = db.execute(f"SELECT count(*) FROM parked WHERE {condition}", values).fetchone()  # noqa: S608
    return number if which.limit is None else min(number, which.limit)


def _change_worker(db: sqlite3.Connection, what: str, which: ParkedQuery, values: Sequence[float]) -> Iterator[int]:
    condition, more = _make_condition(which)
    where = f"number > ? AND number <= ? AND {condition} ORDER BY number LIMIT ?"
    query = f"SELECT number, {SIZE} FROM parked NOT INDEXED WHERE {where}"  # noqa: S608
    (newest,) = db.execute("SELECT coalesce(max(number), 0) FROM parked").fetchone()
    after, left = 0, PORTION_EVENTS if which.limit is None else which.limit
    while numbers := choose_first(db.execute(query, [after, newest, *more, min(PORTION_EVENTS, left)]).fetchall()):
        some = "number IN (SELECT value FROM json_each(?))"
        changed = db.execute(f"{what} {some}", [*values, json.dumps(numbers)])
        yield changed.rowcount
        after, left = numbers[-1], left if which.limit is None else left - len(numbers)


def run_unhurried(steps: Iterator[T]) -> Iterator[T]:
    """Run steps that block the database, with pauses as long as the steps for others."""
    began = time.monotonic()
    for step in steps:
        yield step
        time.sleep(min(time.monotonic() - began, PAUSE_S))
        began = time.monotonic()
