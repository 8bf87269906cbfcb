"""Commands and the holder of a partition do not get into each other's way over parked events."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database
from relay.postgres.state.parked import add_parked, read_marked
from relay.postgres.state.parked_queries import ClusterParked
from relay.store import PORTION_BYTES, Parked, ParkedQuery
from tests.postgres import start_shared_server

EVERY = ParkedQuery()
HALF = b"x" * (PORTION_BYTES // 2)


@pytest.fixture
def database() -> Iterator[Database]:
    """A cluster with 3 parked events in each of 2 partitions, 2 to a portion."""
    with closing(start_shared_server().make_database(partitions=2)) as database:
        with database.connect() as db:
            db.run("UPDATE $.lease SET epoch = 1")
            for partition in range(2):
                add_parked(db, partition, [make_parked(offset) for offset in range(3)])
        yield database


def make_parked(offset: int) -> Parked:
    return Parked("braze", "heap", offset, "Open", "refused", "a reason", 1, HALF)


def test_a_slow_reader_keeps_no_transaction_and_no_lock(database: Database) -> None:
    parked = ClusterParked(Cluster(database))
    slow = parked.read(EVERY)
    first = next(slow)
    state = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND state LIKE 'idle in transaction%'"
    with database.connect() as db:
        assert db.run(state).fetchone() == (0,)
    assert sum(parked.drop(ParkedQuery(numbers=[first.number + 2]))) == 1
    assert [one.offset for one in slow] == [1, 0, 1, 2]


def test_portions_have_few_bytes_and_keep_to_the_limit(database: Database) -> None:
    parked = ClusterParked(Cluster(database))
    assert [*parked.mark(ParkedQuery(limit=4))] == [2, 1, 1]
    with database.connect() as db:
        marked = [[one.offset for one in read_marked(db, n, "heap", 9, 9 * len(HALF), None)] for n in range(2)]
    assert marked == [[0, 1, 2], [0]]
    assert [*parked.drop(ParkedQuery(limit=5))] == [2, 1, 2]
    assert [(one.offset, one.body) for one in parked.read(EVERY, bodies=False)] == [(2, b"")]
    assert ([*parked.read(ParkedQuery(limit=0))], [*parked.drop(ParkedQuery(limit=0))]) == ([], [])


def test_events_that_are_parked_meanwhile_are_left_alone(database: Database) -> None:
    parked = ClusterParked(Cluster(database))
    dropping = parked.drop(ParkedQuery(connector="heap"))
    assert next(dropping) == 2
    with database.connect() as db:
        add_parked(db, 0, [make_parked(9)])
    assert [*dropping] == [1, 2, 1]
    assert ([one.offset for one in parked.read(EVERY)], parked.count(EVERY)) == ([9], 1)
