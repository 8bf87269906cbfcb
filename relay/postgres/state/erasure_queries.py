"""Erasures as commands request and read them: the tables `erasure` and `erasure_answer`.

An erasure has a row of the same number in each partition, from the request on: every partition erases the user. The
first partition calls the connectors. In the rows of the others, a connector's answer only says whether the partition
can still write events of the user there.
"""

from itertools import starmap
from typing import Final

from msgspec.structs import replace

from relay.api import User
from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection, Values
from relay.postgres.state.cursor import read_now
from relay.store import (
    ERASURE_COLUMNS,
    Erasure,
    ErasureResult,
    FailingErasures,
    encode_ids,
    merge_all,
    parse_erasures,
)

_COLUMNS: Final = ", ".join(f'"{name}"' for name in ERASURE_COLUMNS)
_ADD: Final = """
    INSERT INTO $.erasure
        (partition, number, asked, type, source, "offset", asked_by, user_id, external_ids, other_ids, digests)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_FAILING: Final = """
    SELECT DISTINCT number, asked, problem FROM $.erasure WHERE done IS NULL AND problem IS NOT NULL
"""
_FAILING_AT_CONNECTORS: Final = """
    SELECT connector, count(*), min(since), (array_agg(reason ORDER BY since))[1] FROM (
        SELECT connector, coalesce(compacted, asked) AS since, reason
        FROM $.erasure JOIN $.erasure_answer USING (partition, number)
        WHERE partition = 0 AND done IS NULL AND outcome = 'failed'
    ) AS failed GROUP BY connector ORDER BY connector
"""
_COUNT: Final = """
    SELECT count(*) FILTER (WHERE number > %s AND type IS NOT NULL),
           count(*) FILTER (WHERE done >= %s AND type IS NOT NULL), coalesce(max(number), 0)
    FROM $.erasure WHERE partition = 0
"""


class ClusterErasures:
    """The erasures of a cluster. See `relay.store.StoredErasures`."""

    out_of_reach = "the server's WAL until it is recycled, its WAL archive, backups, and standbys that lag"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def ask(self, user: User, asked_by: str = "") -> int:
        with self._cluster.change() as db:
            return add_everywhere(db, Erasure(asked=read_now(db), user=user, asked_by=asked_by))

    def read(self) -> list[Erasure]:
        partitions = self._cluster.list_partitions()
        with self._cluster.use() as db:
            found = [(number, one) for number in partitions for one in read_erasures(db, number)]
        return merge_all(found, "partition {}".format)

    def find_failing(self) -> list[FailingErasures]:
        with self._cluster.use() as db:
            here = {number: (asked, problem) for number, asked, problem in db.run(_FAILING)}
            at_connectors = find_failing_at_connectors(db)
        return [*([FailingErasures(None, len(here), *min(here.values()))] if here else []), *at_connectors]

    def count(self, after: int, since: float) -> tuple[int, int, int]:
        with self._cluster.use() as db:
            ((asked, done, last),) = db.run(_COUNT, (after, since)).fetchall()
        return asked, done, last


def add_everywhere(db: PostgresConnection, one: Erasure) -> int:
    """Give a new erasure its number, and add it to all partitions; return the number."""
    ((number,),) = db.run("SELECT nextval('$.erasure_number')").fetchall()
    for (partition,) in db.run("SELECT partition FROM $.partition ORDER BY 1").fetchall():
        add_erasure(db, partition, replace(one, number=number))
    return int(number)


def add_erasure(db: PostgresConnection, partition: int, one: Erasure) -> None:
    """Add an erasure with its number to a partition."""
    origin = (one.type, one.source, one.offset, one.asked_by)
    db.run(_ADD, (partition, one.number, one.asked, *origin, one.user.user_id, *encode_ids(one)))


def read_erasures(
    db: PostgresConnection, partition: int, condition: str = "TRUE", values: Values = None
) -> list[Erasure]:
    """Read the erasures of a partition for which an SQL condition holds, the last one first."""
    which = f"FROM $.erasure WHERE partition = {partition:d} AND ({condition})"
    rows = db.run(f"SELECT {_COLUMNS} {which} ORDER BY number DESC", values).fetchall()
    if not rows:
        return []
    query = f"""
        SELECT number, connector, outcome, reason, attempts, at FROM $.erasure_answer
        WHERE partition = {partition:d} AND number IN (SELECT number {which}) ORDER BY connector
    """  # noqa: S608
    return parse_erasures(rows, db.run(query, values).fetchall())


def has_open_erasures(db: PostgresConnection, partition: int) -> bool:
    """Return whether an erasure is not done."""
    query = "SELECT EXISTS (SELECT FROM $.erasure WHERE partition = %s AND done IS NULL)"
    return db.run(query, (partition,)).fetchone() == (True,)


def find_failing_at_connectors(db: PostgresConnection) -> list[FailingErasures]:
    """Find the open erasures that fail at connectors."""
    return [*starmap(FailingErasures, db.run(_FAILING_AT_CONNECTORS))]


def forget_at_connector(db: PostgresConnection, connector: str) -> int:
    """Mark the failed erasures of a connector as forgotten there, in all partitions; return their number."""
    query = """
        UPDATE $.erasure_answer AS answer SET outcome = 'forgotten' FROM $.erasure AS asked
        WHERE connector = %s AND outcome = 'failed' AND done IS NULL
        AND (asked.partition, asked.number) = (answer.partition, answer.number)
    """
    return db.run(query, (connector,)).rowcount


def read_done_by_admins(db: PostgresConnection, since: float) -> list[ErasureResult]:
    """Return what each partition removed for the erasures that admins requested, and that were done in any partition
    from `since` on (Unix seconds)."""
    query = """
        SELECT number, done, events, parked + unreadable, asked_by FROM $.erasure
        WHERE number IN (SELECT number FROM $.erasure WHERE done >= %s AND type IS NULL)
    """
    return [*starmap(ErasureResult, db.run(query, (since,)))]
