"""Doubts of a cluster, until an admin accepts them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.state.damage import read_damage, save_damage
from relay.postgres.state.doubts import ClusterDoubts
from relay.postgres.state.journal_state import read_times, save_head
from relay.store import Damage
from tests.postgres import start_shared_server

LOST = Damage(4, 9, "the log", "the database came back without them", None)


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(start_shared_server().make_database(partitions=2)) as database:
        yield database


def make_doubts(database: Database, folder: Path) -> ClusterDoubts:
    cluster = Cluster(database)
    return ClusterDoubts(cluster, KnownCluster(cluster, folder))


def test_lost_offsets_are_a_doubt_until_they_are_accepted(database: Database, tmp_path: Path) -> None:
    doubts = make_doubts(database, tmp_path)
    with database.connect() as db:
        save_damage(db, 1, [LOST])
    (found,) = doubts.find()
    assert (found.worker, found.what, found.is_damage) == (1, "journal", True)
    assert found.said == "5 events cannot be read: offsets 4-8 in the log (the database came back without them)"
    assert doubts.describe_accepting("journal").endswith("what is lost stays lost")
    lost = (
        "partition 1: for good, 5 events cannot be read: offsets 4-8 in the log (the database came back without them)"
    )
    assert (doubts.accept("journal"), doubts.find()) == ([lost], [])
    with database.connect() as db:
        assert read_damage(db, 1) == []
        assert db.run("SELECT changes FROM $.partition").fetchall() == [(1,), (1,)]


def test_a_clock_ahead_is_a_doubt_until_it_is_accepted(database: Database, tmp_path: Path) -> None:
    doubts = make_doubts(database, tmp_path)
    with database.connect() as db:
        save_head(db, 0, 0, 1.0, 2 * 86400.0)
    assert [(one.worker, one.what, one.said[:20]) for one in doubts.find()] == [(0, "clock", "it is 2.0 days ahead")]
    doubts.accept("clock")
    assert doubts.find() == []
    with database.connect() as db:
        assert min(read_times(db, 0)[:2]) > 1e9


def test_another_cluster_is_a_doubt_also_before_any_run(database: Database, tmp_path: Path) -> None:
    (tmp_path / "cluster").write_text("00000000-0000-0000-0000-000000000001\n")
    doubts = make_doubts(database, tmp_path)
    (found,) = doubts.find()
    assert "and this node has worked with cluster 00000000-0000-0000-0000-000000000001: stop all" in found.said
    said = doubts.describe_accepting("journal")
    assert "take part in the cluster that PostgreSQL" in said
    assert "holds now: no events; events, parked events, positions and pauses of the other cluster are lost" in said
    doubts.accept("journal")
    assert doubts.find() == []
