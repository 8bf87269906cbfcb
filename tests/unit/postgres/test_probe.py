"""What relay finds of a database before it works with it."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen
from uuid import uuid4

import psycopg
import pytest

from relay.config import JournalSettings
from relay.postgres import snapshots
from relay.postgres.connection import Database
from relay.postgres.nodes import ClusterMembership
from relay.postgres.probe import Observation, observe, read_health
from relay.postgres.process import Process, name_machine
from relay.postgres.schema import make_sql, make_tables
from relay.store import Unavailable
from tests.postgres import Server, start_shared_server


@pytest.fixture
def server() -> Server:
    return start_shared_server()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(server.make_database(partitions=2)) as database:
        yield database


@pytest.fixture
def role(server: Server) -> str:
    """A role that may log in and nothing else."""
    name = f"role_{uuid4().hex[:6]}"
    server.execute(f"CREATE ROLE {name} LOGIN")
    return name


def connect(server: Server, role: str, schema: str) -> Database:
    return Database(server.dsn.replace("user=relay", f"user={role}"), schema)


def look(
    database: Database, partitions: int = 2, folder: Path | None = None, runs: int | None = None
) -> dict[str, Observation]:
    settings = JournalSettings(backend="postgres", dsn={"env": "DSN"}, partitions=partitions, node="a")
    return {one.about: one for one in observe(database, settings, folder, runs)}


def test_a_good_database_is_told_in_words(server: Server, database: Database) -> None:
    found = look(database)
    assert {one.level for one in found.values()} == {"ok"}
    assert found["server"].said.startswith("PostgreSQL 1")
    assert ", role relay, round trip " in found["server"].said
    ((cluster,),) = server.execute(f"SELECT id FROM {database.schema}.cluster")
    assert found["tables"].said == f"2 partitions of the cluster {cluster}"
    assert found["nodes"].said == "none runs"
    assert found["grants"].said == f"the role may use the schema {database.schema}, and owns its tables"
    assert found["durability"].said.startswith("an acknowledged event is on the disk of this database server alone")
    assert found["snapshots"].said == "none is held for more than 10m 0s"


def test_partitions_below_those_that_exist_are_a_problem(database: Database) -> None:
    assert look(database, partitions=1)["partitions"] == Observation(
        "problem",
        "partitions",
        "journal.partitions is 1, and 2 partitions exist",
        "set partitions = 2, for the number never shrinks",
        "partitions",
    )
    assert look(database, partitions=5)["tables"].said.endswith("; the next start makes 3 more")


def test_missing_tables_and_tables_of_another_relay_are_a_problem(server: Server, database: Database) -> None:
    with closing(Database(server.dsn, "nothing")) as nothing:
        missing = look(nothing)
    where = 'in the schema "nothing" of the database postgres at 127.0.0.1'
    assert missing["tables"].said == f"relay's tables are not there, {where}"
    assert missing["tables"].advice.endswith("restore them; else run relay journal init, which makes them, empty")
    assert missing["grants"].said == 'the role may make the schema "nothing"'
    server.execute(f"UPDATE {database.schema}.cluster SET oldest = 99")
    newer = look(database)["tables"]
    assert newer.said == "a newer relay has changed the tables (version 99; this relay knows 1)"
    assert (newer.advice, newer.setting) == ("install the newer relay here, too", "schema")
    server.execute(f"UPDATE {database.schema}.cluster SET version = 0, oldest = 0")
    older = look(database)["tables"]
    assert older.said == "the tables are of an older relay (version 0; this relay needs 1)"
    assert older.advice == "run relay journal init of this relay, and older relays go on meanwhile"


def test_more_processes_than_partitions_are_a_warning(server: Server, database: Database) -> None:
    joined = [ClusterMembership(database, Process(*one), 10.0) for one in (("a", 0), ("a", 1), ("b", 0), ("gone", 0))]
    for one in joined:
        one.join()
    joined[-1].leave()
    assert look(database)["nodes"].said == (
        "3 workers of 2 nodes share journal.partitions = 2: 1 of them deliver nothing"
    )
    assert look(database, partitions=3)["nodes"].said == "3 workers of 2 nodes"


def test_missing_grants_are_named(server: Server, database: Database, role: str) -> None:
    with closing(connect(server, role, "no_such")) as low:
        assert look(low)["grants"].said == 'the role may not make the schema "no_such"'
    schema = database.schema.strip('"')
    with closing(connect(server, role, schema)) as low:
        with pytest.raises(Unavailable, match="permission denied for schema") as caught:
            look(low)
        assert caught.value.reason == "denied"
        server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
        assert "may not use the schema" in look(low)["grants"].said
        server.execute(f"GRANT CREATE ON SCHEMA {schema} TO {role}")
        found = look(low)
        assert (
            found["grants"].said
            == "the role does not own alert_message, alert_message_number_seq, alert_track and others"
        )
        assert found["snapshots"].said == "relay sees only the sessions of its own role"


def test_sql_for_an_admin_makes_tables_that_the_role_owns(server: Server, role: str) -> None:
    schema = f"by_admin_{uuid4().hex[:6]}"
    server.execute(make_sql(f'"{schema}"', 2, f'"{role}"'))
    with closing(connect(server, role, schema)) as database:
        found = look(database)
        assert {one.level for one in found.values()} == {"ok"}
        with database.connect() as db:
            assert make_tables(db, 2) == ""


def test_a_role_makes_tables_in_a_schema_that_is_given_to_it(server: Server, role: str) -> None:
    schema = f"given_{uuid4().hex[:6]}"
    server.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    with closing(connect(server, role, schema)) as database, database.connect() as db:
        assert make_tables(db, 3).endswith("tables and 3 partitions")
        assert make_tables(db, 5) == "made 2 more partitions: there are 5"
        assert make_tables(db, 5) == ""
        with pytest.raises(Unavailable, match="set partitions = 5"):
            make_tables(db, 4)


def test_tables_that_cannot_be_made_leave_nothing(server: Server, role: str) -> None:
    schema = f"clash_{uuid4().hex[:6]}"
    server.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}; CREATE TABLE {schema}.lease ()")
    with closing(connect(server, role, schema)) as database:
        with pytest.raises(Unavailable, match='relation "lease" already exists'), database.use() as db:
            make_tables(db, 1)
        assert server.execute(f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace") == [
            ("lease",)
        ]


def test_a_snapshot_that_is_held_for_long_is_named(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LONG_S", 0.0)
    with psycopg.connect(f"{server.dsn} application_name=dump") as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        (pid,) = other.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        with database.use() as db:
            named = [one for one in snapshots.find_long_snapshots(db) if one.holder.startswith(f"session {pid} ")]
            health = read_health(db)
    assert [one.holder for one in named] == [f"session {pid} of relay (dump)"]
    assert str(named[0]) == f"session {pid} of relay (dump) holds a snapshot for 0s"
    assert any(f"session {pid} of relay (dump) holds a snapshot for 0s: end it" in one for one in health.problems)
    assert health.held_snapshots == len(health.problems)


def test_a_slot_that_holds_a_snapshot_is_named_by_transactions() -> None:
    slot = snapshots.HeldSnapshot("replication slot b", None, 250_000)
    assert str(slot) == "replication slot b holds a snapshot for 250,000 transactions"


def test_tables_with_which_no_relay_starts_are_a_problem(server: Server, database: Database) -> None:
    server.execute(f"UPDATE {database.schema}.cluster SET barred = 'the copy is not complete'")
    found = look(database)["tables"]
    assert (found.level, "no relay starts" in found.said, found.advice) == ("problem", True, "the copy is not complete")


def test_a_name_that_another_relay_has_is_a_problem(database: Database, tmp_path: Path) -> None:
    assert {one.level for one in look(database, folder=tmp_path).values()} == {"ok"}
    ClusterMembership(database, Process("a", machine="m", host="h", number=17), 60.0).join()
    assert look(database, folder=tmp_path, runs=0)["node"].said.startswith("node a runs already, as process 17 on h")
    with database.use() as db:
        db.run("UPDATE $.node SET machine = %s", [name_machine()])
    assert "node" not in look(database, folder=tmp_path, runs=0), "it is the relay itself"
    assert "node" not in look(database)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root: namespaces")
def test_a_relay_in_another_namespace_is_known_for_what_it_is(database: Database, tmp_path: Path) -> None:
    """As a service is in a container of systemd-nspawn: relay and doctor see different boots."""
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    seen = "mount --bind $0 /proc/sys/kernel/random/boot_id && cat /proc/sys/kernel/random/boot_id && exec sleep 60"
    with Popen(["unshare", "--mount", "sh", "-c", seen, str(boot)], stdout=PIPE) as relay:
        try:
            assert relay.stdout is not None
            assert relay.stdout.readline() == b"another\n"
            machine = f"another {Path('/proc/self/ns/pid').stat().st_ino}"
            ClusterMembership(database, Process("a", machine=machine, number=relay.pid), 60.0).join()
            assert "node" in look(database, folder=tmp_path, runs=0)
            assert "node" not in look(database, folder=tmp_path, runs=relay.pid)
        finally:
            relay.kill()


def test_another_cluster_than_before_is_a_problem(database: Database, tmp_path: Path) -> None:
    (tmp_path / "cluster").write_text(str(uuid4()))
    found = look(database, folder=tmp_path)["cluster"]
    assert (found.level, "and this node has worked with cluster" in found.said) == ("problem", True)
    assert "restore the old tables" in found.advice
    assert "cluster" not in look(database)
