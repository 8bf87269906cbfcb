"""Parked events (dead letters) as commands and bystanders select them, in all partitions.

Every portion is a transaction of its own. Nobody waits for a slow reader, and the holder of a partition works on
between two portions.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import starmap
from typing import Any, Final, TypeVar

from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection
from relay.postgres.state.parked import COLUMNS, WITHOUT_BODY
from relay.store import (
    PORTION_EVENTS,
    Parked,
    ParkedQuery,
    ParkedTotal,
    choose_first,
    parse_totals,
)

T = TypeVar("T")
_NEWEST: Final = """
    SELECT partition, (SELECT max(number) FROM $.parked WHERE partition = one.partition)
    FROM $.partition AS one ORDER BY partition
"""
_READ: Final = "FROM $.parked WHERE partition = %s AND number = ANY(%s) ORDER BY number"
_DROP: Final = "DELETE FROM $.parked WHERE partition = %s AND number = ANY(%s)"
_MARK: Final = """
    UPDATE $.parked SET again = $.unix_time()
    WHERE partition = %s AND number = ANY(%s) AND connector IS NOT NULL
"""


class ClusterParked:
    """The parked events of a cluster. See `relay.store.StoredParked`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def read(self, which: ParkedQuery, *, bodies: bool = True) -> Iterator[Parked]:
        query = f"SELECT {COLUMNS if bodies else WITHOUT_BODY} {_READ}"

        def read_portion(db: PostgresConnection, partition: int, numbers: Sequence[int]) -> list[Parked]:
            return [*starmap(Parked, db.run(query, (partition, numbers)))]

        for portion in self._work_in_portions(which, lambda _: self._cluster.use(), read_portion):
            yield from portion

    def read_totals(self) -> list[ParkedTotal]:
        with self._cluster.use() as db:
            return read_parked_totals(db)

    def count(self, which: ParkedQuery) -> int:
        condition, values = _make_condition(which)
        what = "coalesce(sum(events), 0)::bigint FROM $.parked_total" if which.is_counted else "count(*) FROM $.parked"
        with self._cluster.use() as db:
            row = db.run(f"SELECT {what} WHERE {condition}", values).fetchone()
        events = 0 if row is None else int(row[0])
        return events if which.limit is None else min(events, which.limit)

    def drop(self, which: ParkedQuery) -> Iterator[int]:
        return self._change(_DROP, which)

    def mark(self, which: ParkedQuery) -> Iterator[int]:
        return self._change(_MARK, which)

    def _change(self, statement: str, which: ParkedQuery) -> Iterator[int]:
        def change_portion(db: PostgresConnection, partition: int, numbers: Sequence[int]) -> int:
            return db.run(statement, (partition, numbers)).rowcount

        return self._work_in_portions(which, self._cluster.change, change_portion)

    def _work_in_portions(
        self,
        which: ParkedQuery,
        lend: Callable[[int], AbstractContextManager[PostgresConnection]],
        work: Callable[[PostgresConnection, int, Sequence[int]], T],
    ) -> Iterator[T]:
        """Work with the selected events that are parked now, in portions; yield the result of each portion.

        `lend` lends a connection for a portion of a partition. `work` gets the partition and the numbers.
        """
        left = PORTION_EVENTS if which.limit is None else which.limit
        with self._cluster.use() as db:
            newest = db.run(_NEWEST).fetchall()
        for partition, last in newest:
            after = 0
            while last and after < last and left:
                with lend(partition) as db:
                    numbers = _choose(db, which, partition, after, last, min(PORTION_EVENTS, left))
                    done = work(db, partition, numbers) if numbers else None
                if done is None:
                    break
                yield done
                after, left = numbers[-1], left if which.limit is None else left - len(numbers)


def _choose(
    db: PostgresConnection, which: ParkedQuery, partition: int, after: int, last: int, most: int
) -> Sequence[int]:
    """Choose the next selected events of a partition behind number `after`, up to number `last`; return numbers."""
    condition, values = _make_condition(which)
    values |= {"partition": partition, "after": after, "last": last, "most": most}
    query = f"""
        SELECT number, size FROM $.parked
        WHERE partition = %(partition)s AND number > %(after)s AND number <= %(last)s AND {condition}
        ORDER BY number LIMIT %(most)s
    """  # noqa: S608
    return choose_first(db.run(query, values))


def _make_condition(which: ParkedQuery) -> tuple[str, dict[str, Any]]:
    """Return the SQL condition of a query without its limit, and its values."""
    names = ("connector", "source", "cause")
    parts = [f"{name} = %({name})s" for name in names if getattr(which, name) is not None]
    parts += ["last >= %(since)s"] if which.since is not None else []
    parts += ["number = ANY(%(numbers)s)"] if which.numbers else []
    return " AND ".join(parts) or "TRUE", asdict(which) | {"numbers": [*which.numbers]}


def read_parked_totals(db: PostgresConnection, partition: int | None = None) -> list[ParkedTotal]:
    """Read the totals by source, connector and cause, with the removed events, of a partition or with None of all."""
    condition = "TRUE" if partition is None else f"partition = {partition:d}"
    query = f"SELECT source, connector, cause, events, bytes FROM $.parked_total WHERE {condition}"  # noqa: S608
    lying = db.run(query).fetchall()
    query = f"SELECT source, connector, cause, reason, events FROM $.parked_removed WHERE {condition}"  # noqa: S608
    gone = db.run(query).fetchall()
    return parse_totals(lying, gone)


def read_parked_offsets(db: PostgresConnection, partition: int) -> Mapping[str, Sequence[int]]:
    """Read the offsets at which lanes have parked anything, by connector. Replays have ledgers of their own."""
    query = """
        SELECT DISTINCT connector, "offset" FROM $.parked
        WHERE partition = %s AND connector IS NOT NULL AND replay IS NULL ORDER BY connector, "offset"
    """
    found: dict[str, MutableSequence[int]] = {}
    for connector, offset in db.run(query, (partition,)):
        found.setdefault(connector, array("q")).append(offset)  # a million take no more than 8 MB
    return found


def find_parked_at(db: PostgresConnection, partition: int, offsets: Sequence[int]) -> list[Parked]:
    """Find the parked events of lanes at these offsets, a thousand at most, without their bodies."""
    query = f"""
        SELECT {WITHOUT_BODY} FROM $.parked WHERE partition = %s AND "offset" = ANY(%s)
        AND connector IN (SELECT connector FROM $.cursor WHERE partition = %s) LIMIT 1000
    """  # noqa: S608
    return [*starmap(Parked, db.run(query, (partition, [*offsets], partition)))]


def has_marked(db: PostgresConnection, partition: int) -> bool:
    """Return whether a requested replay of a parked event is not done."""
    query = "SELECT EXISTS (SELECT FROM $.parked WHERE partition = %s AND again IS NOT NULL)"
    return db.run(query, (partition,)).fetchone() == (True,)
