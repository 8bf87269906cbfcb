"""What commands are told of a cluster that relay cannot work with, and how changes wait for holders of leases."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from relay.api import User
from relay.postgres import cluster as cluster_module
from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.lease import Leases
from relay.postgres.process import Process
from relay.postgres.schema import make_tables
from relay.postgres.state import alerts, history
from relay.postgres.state.replays import ClusterReplays
from relay.store import NUMBERS, AlertMessage, Cursor, Entry, Replay, Unavailable, Wanted
from tests.postgres import Server, start_shared_server

ANNA = Wanted({1: User("anna")})
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
def server() -> Server:
    return start_shared_server()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(server.make_database(partitions=2)) as database:
        yield database


@pytest.fixture
def cluster(database: Database) -> Cluster:
    """A cluster that a relay has run with."""
    execute(database, "UPDATE $.lease SET epoch = 1")
    return Cluster(database)


def execute(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.connect() as db:
        rows = db.run(statement)
        return rows.fetchall() if rows.description else []


def test_a_schema_without_tables_is_missing(server: Server) -> None:
    with closing(Database(server.dsn, "nothing")) as database:
        with pytest.raises(Unavailable, match="makes them, empty") as caught:
            history.ClusterHistory(Cluster(database)).read()
        assert (caught.value.reason, 'in the schema "nothing"' in str(caught.value)) == ("missing", True)


def test_tables_in_the_middle_of_a_restore_are_missing(database: Database) -> None:
    execute(database, "DELETE FROM $.cluster")
    with pytest.raises(Unavailable, match="is empty") as caught:
        database.check_cluster()
    assert caught.value.reason == "missing"


def test_a_cluster_without_a_run_says_so(database: Database) -> None:
    cluster = Cluster(database)
    with pytest.raises(Unavailable, match=f"no relay has run with PostgreSQL .*{database.schema[1:-1]}") as caught:
        history.ClusterHistory(cluster).read()
    assert caught.value.reason == "missing"
    execute(database, "UPDATE $.lease SET epoch = 1 WHERE partition = 1")
    assert history.ClusterHistory(cluster).read() == []


def test_tables_to_which_a_newer_relay_has_added_are_read(cluster: Cluster, database: Database) -> None:
    execute(database, "UPDATE $.lease SET epoch = 1 WHERE partition = 0")
    execute(database, "UPDATE $.cluster SET version = 99; ALTER TABLE $.cursor ADD COLUMN lag integer DEFAULT 0")
    assert history.ClusterHistory(cluster).read() == []


def test_tables_of_a_newer_relay_are_not_read(cluster: Cluster, database: Database) -> None:
    execute(database, "UPDATE $.cluster SET oldest = 99")
    with pytest.raises(Unavailable, match="a newer relay has changed the tables"), cluster.use():
        pass


def test_a_role_without_rights_is_told_what_to_grant(server: Server, database: Database) -> None:
    server.execute("DROP ROLE IF EXISTS stranger")
    server.execute("CREATE ROLE stranger LOGIN")
    execute(database, "GRANT USAGE ON SCHEMA $. TO stranger".replace("$.", database.schema))
    dsn = server.dsn.replace("user=relay", "user=stranger")
    with closing(Database(dsn, database.schema[1:-1])) as poor:
        with pytest.raises(Unavailable, match="see relay check --probe") as caught:
            history.ClusterHistory(Cluster(poor)).read()
        assert caught.value.reason == "denied"


def test_a_change_waits_for_the_holder_and_is_seen(cluster: Cluster, database: Database) -> None:
    def change() -> None:
        with cluster.change(0):
            pass

    lease = Leases(database, Process("a"), 60.0).take(0)
    with database.connect() as holder, ThreadPoolExecutor(1) as threads:
        with holder.transaction_of(lease.hold):
            waiting = threads.submit(change)
            with cluster.change(1):
                pass
            deadline = time.monotonic() + 60
            while execute(database, WAITING) == [(0,)] and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not waiting.done()
        waiting.result(60)
    assert execute(database, "SELECT changes FROM $.partition ORDER BY partition") == [(1,), (1,)]
    with cluster.change():
        pass
    assert execute(database, "SELECT changes FROM $.partition ORDER BY partition") == [(2,), (2,)]


def test_a_change_ends_when_the_holder_takes_too_long(
    cluster: Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "WAIT_FOR_LOCKS", "SELECT set_config('lock_timeout', '50ms', true);")
    hold = "SELECT pg_advisory_xact_lock_shared(lock, 1) FROM $.cluster;"
    with (
        database.connect() as holder,
        holder.transaction_of(hold),
        pytest.raises(Unavailable, match="lock timeout") as caught,
        cluster.change(),
    ):
        pass
    assert caught.value.reason == "busy"


def test_a_replay_of_no_partition_is_refused(cluster: Cluster) -> None:
    replays = ClusterReplays(cluster)
    assert replays.ask(Replay("heap", Cursor(0, 0), 1), 1) == NUMBERS + 1
    with pytest.raises(Unavailable, match=r"PostgreSQL \(.*\) has no partition 2"):
        replays.ask(Replay("heap", Cursor(0, 0), 1), 2)
    assert [replays.cancel(number) for number in (NUMBERS + 1, 2 * NUMBERS + 1)] == [True, False]


def test_another_cluster_in_the_schema_is_refused_until_accepted(
    server: Server, cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    known = KnownCluster(cluster, tmp_path / "state")
    assert known.describe_other() == ""
    known.accept()
    known.check()
    before = cluster.read_id()
    server.execute(f"DROP SCHEMA {database.schema} CASCADE")
    with database.connect() as db:
        make_tables(db, 2)
    said = rf"holds cluster {cluster.read_id()}, and this node has worked with cluster {before}: .*relay accept journal"
    with pytest.raises(Unavailable, match=said):
        known.check()
    known.accept()
    known.check()
    (tmp_path / "state" / "cluster").write_text("nonsense")
    with pytest.raises(Unavailable, match="state/cluster cannot be read"):
        known.check()


def test_history_and_messages_stay_without_the_ids_of_a_user(cluster: Cluster, database: Database) -> None:
    written = history.ClusterHistory(cluster)
    written.add([Entry("failing", "connector heap", "heap answers: no anna", about={"of": "anna", "n": 1})])
    written.add([Entry("failing", "connector heap", "heap answers: no Joanna")])
    sent = alerts.ClusterAlerts(cluster)
    sent.save_message(AlertMessage("1", "mail", time.time(), '{"title": "no anna"}', problem="anna?"))
    with database.connect() as db:
        history.hide_users(db, ANNA)
        alerts.hide_users(db, ANNA)
    assert [(one.sentence, one.about) for one in written.read()] == [
        ("heap answers: no ...", {"of": "...", "n": 1}),
        ("heap answers: no Joanna", {}),
    ]
    assert [(one.message, one.problem) for one in sent.read(["mail"])[1]] == [('{"title": "no ..."}', "...?")]
