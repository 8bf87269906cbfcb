"""Parked events (dead letters): the tables `parked`, `parked_total` and `parked_removed`.

Triggers keep `parked_total`, whoever changes `parked`.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from typing import Any, Final

from relay.postgres.connection import PostgresConnection
from relay.store import (
    PARKED_FIELDS,
    PORTION_BYTES,
    PORTION_EVENTS,
    Parked,
    ParkedLimits,
    ParkedRow,
    Reason,
    RemovedParked,
    choose_first,
)

COLUMNS: Final = ", ".join(f'"{name}"' for name in PARKED_FIELDS)
WITHOUT_BODY: Final = COLUMNS.replace('"body"', "''::bytea")
_TYPES: Final = {
    **dict.fromkeys(PARKED_FIELDS, "text"),
    **dict.fromkeys(("offset", "attempts", "replay"), "bigint"),
    **dict.fromkeys(("status", "part"), "integer"),
    **dict.fromkeys(("received", "first", "last", "again"), "double precision"),
    "body": "bytea",
}
_GIVEN: Final = [name for name in PARKED_FIELDS if name not in ("number", "last")]
_KEPT: Final = ("attempts", "first", "again", "replay")
"""Columns of an event that is parked again. It is still replayed if that was requested after the attempt."""
_QUOTED: Final = ", ".join(f'"{name}"' for name in _GIVEN)
_PARK: Final = f"""
    INSERT INTO $.parked AS known (partition, number, last, {_QUOTED})
    SELECT %(partition)s, nextval(%(numbers)s), now, {_QUOTED.replace('"first"', 'coalesce("first", now)')}
    FROM (SELECT $.unix_time() AS now) AS present,
         unnest({", ".join(f"%({name})s::{_TYPES[name]}[]" for name in _GIVEN)}) AS one ({_QUOTED})
    ON CONFLICT (partition, connector, "offset", part) DO UPDATE SET attempts = known.attempts + excluded.attempts,
    again = CASE WHEN known.again > excluded.first THEN known.again END,
    {", ".join(f'"{name}" = excluded."{name}"' for name in [*_GIVEN, "last"] if name not in _KEPT)}
    RETURNING number
"""  # noqa: S608
_IS_BEYOND: Final = """
    SELECT EXISTS (
        SELECT FROM $.parked
        WHERE partition = %(partition)s AND last < (SELECT $.unix_time() - %(age)s) AND again IS NULL
    ) OR (SELECT sum(bytes) FROM $.parked_total WHERE partition = %(partition)s) > %(size)s
"""
_MARKED: Final = f"""
    SELECT {COLUMNS} FROM (
        SELECT *, sum(octet_length(body)) OVER in_order AS total, row_number() OVER in_order AS place FROM (
            SELECT * FROM $.parked AS one
            WHERE partition = %(partition)s AND connector = %(connector)s AND (again IS NOT NULL OR cause = 'order')
            AND (key IS NULL OR NOT EXISTS (
                SELECT 1 FROM $.parked AS earlier
                WHERE earlier.partition = one.partition AND earlier.connector = one.connector
                AND left(earlier.key, 200) = left(one.key, 200) AND earlier.key = one.key
                AND (earlier."offset", earlier.part) < (one."offset", one.part)
            ))
            AND (%(offsets)s::bigint[] IS NULL OR "offset" = ANY(%(offsets)s::bigint[]))
            ORDER BY "offset", part LIMIT %(events)s
        ) AS due WINDOW in_order AS (ORDER BY "offset", part)
    ) AS measured WHERE total <= %(size)s OR place = 1 ORDER BY "offset", part
"""  # noqa: S608
_LET_GO: Final = """
    DELETE FROM $.parked WHERE partition = %s AND connector = %s AND "offset" = %s AND part = %s AND attempts = %s
"""
_COUNT_REMOVED: Final = """
    INSERT INTO $.parked_removed AS known VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (partition, source, connector, cause, reason) DO UPDATE SET events = known.events + excluded.events
"""


def add_parked(db: PostgresConnection, partition: int, parked: Sequence[Parked]) -> list[int]:
    """Park events; return their numbers. An event that was parked before keeps its number."""
    ahead = _measure_ahead(db)
    numbers: list[int] = []
    for portion in _divide(parked):
        values: dict[str, Any] = {name: [getattr(one, name) for one in portion] for name in _GIVEN}
        values["first"] = [one.first + ahead if one.first else None for one in portion]
        values |= {"partition": partition, "numbers": f"{db.schema}.parked_number_{partition:d}"}
        numbers += [number for (number,) in db.run(_PARK, values)]
    return numbers


def _measure_ahead(db: PostgresConnection) -> float:
    """Return the seconds by which the server's clock is ahead of this machine's, or a little less.

    So a mark that an admin has set since an attempt counts as later.
    """
    ((now,),) = db.run("SELECT $.unix_time()").fetchall()
    return float(now) - time.time()


def _divide(parked: Iterable[Parked]) -> Iterator[list[Parked]]:
    """Divide events into portions for a statement each. No portion has two events of the same place."""
    portion: list[Parked] = []
    places: set[tuple[str | None, int | None, int]] = set()
    size = 0
    for one in parked:
        place = one.connector, one.offset, one.part
        if portion and (place in places or len(portion) == PORTION_EVENTS or size > PORTION_BYTES):
            yield portion
            portion, places, size = [], set(), 0
        portion.append(one)
        size += len(one.body)
        if one.connector is not None:
            places.add(place)
    if portion:
        yield portion


def delete_delivered(db: PostgresConnection, partition: int, delivered: Iterable[Parked]) -> None:
    """Delete parked events that were delivered. An event stays if it has failed since it was read."""
    db.run_many(_LET_GO, [(partition, one.connector, one.offset, one.part, one.attempts) for one in delivered])


def delete_parked(db: PostgresConnection, partition: int, numbers: Sequence[int]) -> None:
    """Delete the parked events with these numbers."""
    db.run("DELETE FROM $.parked WHERE partition = %s AND number = ANY(%s)", (partition, [*numbers]))


def read_marked(
    db: PostgresConnection, partition: int, connector: str, events: int, size: int, offsets: Sequence[int] | None
) -> list[Parked]:
    """Read the parked events that a connector is to get again, as `PostgresState.read_marked`."""
    values = {
        "partition": partition,
        "connector": connector,
        "events": events,
        "size": size,
        "offsets": None if offsets is None else [*offsets],
    }
    return [*starmap(Parked, db.run(_MARKED, values))]


def read_places(db: PostgresConnection, partition: int, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
    """Read offset and part of what a lane, not a replay, has parked at these offsets."""
    query = """
        SELECT "offset", part FROM $.parked
        WHERE partition = %s AND connector = %s AND replay IS NULL AND "offset" = ANY(%s)
    """
    return {(offset, part) for offset, part in db.run(query, (partition, connector, [*offsets]))}


def read_keys(db: PostgresConnection, partition: int, connector: str, but: Sequence[int]) -> set[str]:
    """Read the ordering keys of a connector's parked events, without the events of these numbers."""
    query = """
        SELECT DISTINCT key FROM $.parked
        WHERE partition = %s AND connector = %s AND key IS NOT NULL AND number <> ALL(%s)
    """
    return {key for (key,) in db.run(query, (partition, connector, [*but]))}


def read_ranges(
    db: PostgresConnection, partition: int, connector: str, ranges: Sequence[tuple[int, int]]
) -> list[Parked]:
    """Read what a lane, not a replay, has parked in these ranges, without the bodies."""
    query = f"""
        SELECT {WITHOUT_BODY} FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (start, stop), $.parked
        WHERE partition = %s AND connector = %s AND replay IS NULL AND "offset" >= start AND "offset" < stop
    """  # noqa: S608
    starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
    return [*starmap(Parked, db.run(query, (starts, stops, partition, connector)))]


def read_rows(db: PostgresConnection, partition: int, connector: str | None) -> Iterator[ParkedRow]:
    """Yield the fields that may name a user, for each parked event of a connector; None: of the sources."""
    columns = ", ".join(f'"{name}"' for name in ParkedRow._fields)
    condition = "connector IS NOT DISTINCT FROM %(connector)s"
    return starmap(ParkedRow, _read_portions(db, columns, condition, {"partition": partition, "connector": connector}))


def read_bodies(db: PostgresConnection, partition: int) -> Iterator[bytes]:
    """Yield the body of every parked event."""
    return (body for _, body in _read_portions(db, "number, body", "TRUE", {"partition": partition}))


def _read_portions(
    db: PostgresConnection, columns: str, condition: str, values: dict[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """Yield rows in the order of their numbers, some at a time. The first column is the number."""
    query = f"""
        SELECT {columns} FROM (
            SELECT *, sum(size) OVER (ORDER BY number) AS total, row_number() OVER (ORDER BY number) AS place FROM (
                SELECT * FROM $.parked WHERE partition = %(partition)s AND number > %(after)s AND {condition}
                ORDER BY number LIMIT {PORTION_EVENTS}
            ) AS following
        ) AS measured WHERE total <= {PORTION_BYTES} OR place = 1 ORDER BY number
    """  # noqa: S608
    after = 0
    while rows := db.run(query, {**values, "after": after}).fetchall():
        yield from rows
        after = rows[-1][0]


def change_parked(db: PostgresConnection, partition: int, column: str, value: object, number: int) -> None:
    """Change a column of a parked event."""
    db.run(f"UPDATE $.parked SET {column} = %s WHERE partition = %s AND number = %s", (value, partition, number))  # noqa: S608


def read_parked_connectors(db: PostgresConnection, partition: int) -> set[str]:
    """Read the connectors that have parked events."""
    query = "SELECT DISTINCT connector FROM $.parked_total WHERE partition = %s AND connector <> '' AND events > 0"
    return {connector for (connector,) in db.run(query, (partition,))}


def make_room(db: PostgresConnection, partition: int, limits: ParkedLimits, size: int) -> list[RemovedParked]:
    """Remove some events if so many more bytes are beyond `max_size`; return the removed events.

    Events that were unreadable at a source go first: nobody but their sender knows them. Events that are to be replayed
    stay. The room of the server's disk is the server's affair.
    """
    if not limits.max_size:
        return []
    query = "SELECT coalesce(sum(bytes), 0) FROM $.parked_total WHERE partition = %s"
    ((stored,),) = db.run(query, (partition,)).fetchall()
    over = int(stored) + size - limits.max_size
    if over <= 0:
        return []
    for condition in ("connector IS NULL", "again IS NULL"):
        if gone := _remove(db, partition, condition, (), over, "max_size"):
            return gone
    return []


def is_beyond(db: PostgresConnection, partition: int, limits: ParkedLimits, now: float) -> bool:
    """Return whether some events are too old or too many. `now`: Unix seconds here."""
    values = {
        "partition": partition,
        "age": limits.retention + time.time() - now if limits.retention else math.inf,
        "size": limits.max_size or math.inf,
    }
    return db.run(_IS_BEYOND, values).fetchone() == (True,)


def remove_some(db: PostgresConnection, partition: int, limits: ParkedLimits, now: float) -> list[RemovedParked]:
    """Remove some events that are too old or too many; return the removed events. `now`: Unix seconds here."""
    if limits.retention:
        before = now - limits.retention + _measure_ahead(db)
        if gone := _remove(db, partition, "last < %s AND again IS NULL", (before,), PORTION_BYTES, "retention"):
            return gone
    return make_room(db, partition, limits, 0)


def _remove(
    db: PostgresConnection, partition: int, condition: str, values: Sequence[float], size: int, reason: Reason
) -> list[RemovedParked]:
    """Remove about so many bytes of the events for which an SQL condition holds, the oldest first, and count them."""
    query = f"""
        SELECT number, size FROM $.parked WHERE partition = %s AND {condition} ORDER BY last LIMIT {PORTION_EVENTS}
    """  # noqa: S608
    numbers = choose_first(db.run(query, (partition, *values)).fetchall(), min(size, PORTION_BYTES))
    remove = """
        DELETE FROM $.parked WHERE partition = %s AND number = ANY(%s) RETURNING source, connector, cause, last, size
    """
    rows = db.run(remove, (partition, numbers))
    gone = [RemovedParked(source, connector, cause, last, its, reason) for source, connector, cause, last, its in rows]
    counts = Counter((one.source, one.connector or "", one.cause) for one in gone)
    db.run_many(_COUNT_REMOVED, [(partition, *which, reason, events) for which, events in sorted(counts.items())])
    return gone
