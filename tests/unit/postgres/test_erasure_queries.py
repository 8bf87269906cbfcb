"""Erasures over the partitions of a cluster: one number, a row in each partition, and one receipt."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from relay.api import OtherId, User
from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database, PostgresConnection
from relay.postgres.state.erasure_queries import ClusterErasures, forget_at_connector, has_open_erasures
from relay.postgres.state.history import ClusterHistory
from relay.store import FailingErasures
from tests.postgres import start_shared_server

ANNA = User("anna", ("a\0", "b"), (OtherId("email", "a@b.c"),))


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(start_shared_server().make_database(partitions=2)) as database:
        with database.connect() as db:
            db.run("UPDATE $.lease SET epoch = 1")
        yield database


@pytest.fixture
def db(database: Database) -> Iterator[PostgresConnection]:
    with database.connect() as db:
        yield db


def test_an_erasure_is_asked_of_every_partition_at_once(database: Database, db: PostgresConnection) -> None:
    erasures = ClusterErasures(Cluster(database))
    assert [erasures.ask(ANNA, "an admin"), erasures.ask(User("ben"))] == [1, 2]
    second, first = erasures.read()
    assert ([*first.workers], first.user, first.asked_by, second.number) == ([0, 1], ANNA, "an admin", 2)
    assert db.run("SELECT min(changes) FROM $.partition").fetchone() == (2,)
    db.run("UPDATE $.erasure SET compacted = 5, done = 6, events = 3, parked = 1 WHERE partition = 0")
    assert ([one.status for one in erasures.read()], has_open_erasures(db, 0)) == (["waiting", "waiting"], False)
    history = ClusterHistory(Cluster(database))
    assert history.find_done(0) == []
    db.run("UPDATE $.erasure SET compacted = 5, done = 8, events = 4 WHERE partition = 1 AND number = 1")
    (done,) = history.find_done(7)
    assert (done.sentence, done.at) == ("erasure 1 is done: 7 events and 1 parked removed", 8)
    assert [one.status for one in erasures.read()] == ["waiting", "done"]


def test_failing_erasures_count_once_however_many_fail(database: Database, db: PostgresConnection) -> None:
    erasures = ClusterErasures(Cluster(database))
    for name in ("anna", "ben"):
        erasures.ask(User(name))
    db.run("UPDATE $.erasure SET problem = 'no room', asked = number")
    answer = "INSERT INTO $.erasure_answer VALUES (%s, %s, 'heap', 'failed', %s, 1, 9)"
    db.run_many(answer, [(0, 1, "503"), (0, 2, "later"), (1, 2, "it hangs")])
    assert erasures.find_failing() == [FailingErasures(None, 2, 1.0, "no room"), FailingErasures("heap", 2, 1.0, "503")]
    assert forget_at_connector(db, "heap") == 3
    assert [one.connector for one in erasures.find_failing()] == [None]


def test_requests_of_events_are_counted(database: Database, db: PostgresConnection) -> None:
    erasures = ClusterErasures(Cluster(database))
    for number in range(3):
        erasures.ask(User(str(number)))
    db.run("UPDATE $.erasure SET type = 'users.UserDeleteRequest' WHERE number > 1")
    db.run("UPDATE $.erasure SET done = 10 WHERE number = 2")
    assert (erasures.count(0, 5), erasures.count(2, 11)) == ((2, 1, 3), (1, 0, 3))
