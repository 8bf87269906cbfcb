"""Parked events (dead letters) as commands and bystanders select them, in all partitions.

Every portion is a transaction of its own. Nobody waits for a slow reader, and the holder of a partition works on
between two portions.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice, starmap
from typing import Any, Final, TypeVar

from msgspec.structs import asdict, replace

from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection
from relay.postgres.state.parked import COLUMNS, WITHOUT_BODY
from relay.store import (
    GROUP_FIELDS,
    MOST_GROUPS,
    PORTION_EVENTS,
    Parked,
    ParkedGroup,
    ParkedQuery,
    ParkedTotal,
    choose_first,
    find_partition,
    order_newest,
    parse_totals,
    sum_groups,
)

T = TypeVar("T")
_NEWEST: Final = """
    SELECT partition, (SELECT max(number) FROM $.parked WHERE partition = one.partition)
    FROM $.partition AS one ORDER BY partition
"""
_READ: Final = "FROM $.parked WHERE partition = %s AND number = ANY(%s) ORDER BY number"
_LAST: Final = "SELECT last FROM $.parked WHERE partition = %s AND number >= %s ORDER BY number LIMIT 1"
_CONDITIONS: Final = {
    **{name: f"{name} = %({name})s" for name in ("connector", "source", "cause", "reason")},
    "type": "coalesce(type, '') = %(type)s",
    "since": "last >= %(since)s",
    "until": "last <= %(until)s",
}
_DROP: Final = "DELETE FROM $.parked WHERE partition = %s AND number = ANY(%s)"
_MARK: Final = """
    UPDATE $.parked SET again = $.unix_time()
    WHERE partition = %s AND number = ANY(%s) AND connector IS NOT NULL
"""


class ClusterParked:
    """The parked events of a cluster. See `relay.store.StoredParked`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def read(
        self, which: ParkedQuery, *, bodies: bool = True, newest: bool = False, after: int | None = None
    ) -> Iterator[Parked]:
        query = f"SELECT {COLUMNS if bodies else WITHOUT_BODY} {_READ} {'DESC' if newest else ''}"

        def read_portion(db: PostgresConnection, partition: int, numbers: Sequence[int]) -> list[Parked]:
            return [*starmap(Parked, db.run(query, (partition, numbers)))]

        def read_down(partition: int, below: int | None) -> Iterator[Parked]:
            found = self._work_in_portions(
                unlimited, lambda _: self._cluster.use(), read_portion, behind=below, newest=True, only=partition
            )
            return chain.from_iterable(found)

        unlimited = replace(which, limit=None)
        if newest:
            with self._cluster.use() as db:
                partitions = [partition for partition, _ in db.run(_NEWEST)]
            own = 0 if after is None else find_partition(after)
            yield from islice(order_newest(read_down, partitions, after, own, self._find_last), which.limit)
            return
        for portion in self._work_in_portions(which, lambda _: self._cluster.use(), read_portion, behind=after):
            yield from portion

    def _find_last(self, number: int) -> float | None:
        with self._cluster.use() as db:
            row = db.run(_LAST, (find_partition(number), number)).fetchone()
        return None if row is None else float(row[0])

    def read_groups(self, which: ParkedQuery) -> list[ParkedGroup]:
        condition, values = _make_condition(which)
        same = ", ".join(f'"{name}"' for name in GROUP_FIELDS)
        query = f"""
            SELECT {same}, count(*) AS events, min(first), max(last) FROM $.parked WHERE {condition}
            GROUP BY {same} ORDER BY events DESC LIMIT {MOST_GROUPS}
        """  # noqa: S608
        with self._cluster.use() as db:
            return sum_groups(db.run(query, values))

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
        *,
        behind: int | None = None,
        newest: bool = False,
        only: int | None = None,
    ) -> Iterator[T]:
        """Work with the selected events that are parked now, in portions; yield the result of each portion.

        `lend` lends a connection for a portion of a partition. `work` gets the partition and the numbers. `behind`: the
        number to begin behind, up or with `newest` down. `only`: one partition.
        """
        left = PORTION_EVENTS if which.limit is None else which.limit
        with self._cluster.use() as db:
            found = db.run(_NEWEST).fetchall()
        for partition, last in found:
            first, stop = (0, last or 0) if only in (None, partition) else (0, 0)
            if behind is not None:
                first, stop = (0, min(stop, behind - 1)) if newest else (behind, stop)
            while first < stop and left:
                with lend(partition) as db:
                    numbers = _choose(db, which, partition, (first, stop), min(PORTION_EVENTS, left), newest=newest)
                    done = work(db, partition, numbers) if numbers else None
                if done is None:
                    break
                yield done
                first, stop = (first, numbers[-1] - 1) if newest else (numbers[-1], stop)
                left = left if which.limit is None else left - len(numbers)


def _choose(
    db: PostgresConnection, which: ParkedQuery, partition: int, among: tuple[int, int], most: int, *, newest: bool
) -> Sequence[int]:
    """Choose the next selected events of a partition behind the first number, up to the second; return numbers."""
    condition, values = _make_condition(which)
    values |= {"partition": partition, "after": among[0], "last": among[1], "most": most}
    query = f"""
        SELECT number, size FROM $.parked
        WHERE partition = %(partition)s AND number > %(after)s AND number <= %(last)s AND {condition}
        ORDER BY number {"DESC" if newest else ""} LIMIT %(most)s
    """  # noqa: S608
    return choose_first(db.run(query, values))


def _make_condition(which: ParkedQuery) -> tuple[str, dict[str, Any]]:
    """Return the SQL condition of a query without its limit, and its values."""
    parts = [text for name, text in _CONDITIONS.items() if getattr(which, name) is not None]
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
