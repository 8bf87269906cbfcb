"""Connections and tables on a real PostgreSQL: deadlines, and offsets that nobody gets twice."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from relay.postgres.connection import Database, Lasting, Overdue, PostgresConnection
from relay.postgres.error import convert_errors
from relay.postgres.schema import make_tables
from relay.store import Unavailable
from tests.postgres import Server, start_shared_server

SEGMENT = "SELECT $.begin_segment(0, NULL, 7, 1000)"


@pytest.fixture
def server() -> Server:
    return start_shared_server()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(server.make_database(partitions=2)) as database:
        yield database


def append(db: PostgresConnection, events: int, newest: int = 1, least: int = 0) -> list[tuple[object, ...]]:
    call = "SELECT first_offset FROM $.append(0, %s, %s, %s, '', 'body', 1, 1000)"
    return db.run(call, [newest, least, events]).fetchall()


def test_appends_of_two_processes_have_consecutive_offsets(database: Database) -> None:
    with database.connect() as first, database.connect() as second:
        first.run(SEGMENT)
        assert [append(db, 2) for db in (first, second, first)] == [[(7,)], [(9,)], [(11,)]]
        assert append(second, 1, least=20) == [(20,)]
        with pytest.raises(psycopg.Error, match="segment 99 is not the newest"):
            append(second, 1, newest=99)


def test_an_append_waits_for_the_one_that_is_not_committed(database: Database) -> None:
    with database.connect() as first, database.connect() as second, ThreadPoolExecutor(1) as threads:
        first.run(SEGMENT)
        first.run("BEGIN")
        assert append(first, 3) == [(7,)]
        waiting = threads.submit(append, second, 1)
        first.run("COMMIT")
        assert waiting.result(60) == [(10,)]


def test_an_append_ends_when_the_lock_takes_too_long(database: Database) -> None:
    with database.connect() as first, database.connect() as second:
        first.run(SEGMENT)
        first.run("BEGIN")
        append(first, 3)
        with pytest.raises(Unavailable, match="lock timeout") as caught, convert_errors():
            append(second, 1)
        assert caught.value.reason == "busy"


def test_a_transaction_is_durable_whatever_the_role_says(database: Database) -> None:
    with database.connect() as db:
        db.run("SET synchronous_commit = off")
        with db.transaction_of():
            assert db.run("SHOW synchronous_commit").fetchone() == ("on",)
        assert db.run("SHOW synchronous_commit").fetchone() == ("off",)


def test_a_process_that_stands_still_in_a_transaction_loses_its_locks(database: Database) -> None:
    lock = "SELECT partition FROM $.lease WHERE partition = 0 FOR UPDATE"

    def stand_still(still: PostgresConnection, other: PostgresConnection) -> None:
        with convert_errors(), still.transaction_of():
            still.run(lock)
            with other.transaction_of():
                assert other.run(lock).fetchone() == (0,)  # within its deadline
            still.run("SELECT 1")

    with database.connect() as still, database.connect() as other:
        with pytest.raises(Unavailable, match="relay stood still") as caught:
            stand_still(still, other)
        assert caught.value.reason == "busy"


def test_a_transaction_that_fails_changes_nothing(database: Database) -> None:
    with database.connect() as db:
        with pytest.raises(psycopg.errors.DivisionByZero), db.transaction_of():
            db.run("UPDATE $.partition SET changes = 1 / (partition - 1)")
        assert db.run("SELECT max(changes) FROM $.partition").fetchone() == (0,)


def test_a_deadline_closes_the_connection_and_cancels_nothing(server: Server, database: Database) -> None:
    name = f"late {os.getpid()}"
    late = Lasting(Database(server.dsn, "none", name), deadline_s=0.3)
    with pytest.raises(Unavailable, match=r"has not answered within 0\.3 s"), late.use() as db:
        db.run("SELECT pg_sleep(30)")
    running = f"SELECT query FROM pg_stat_activity WHERE application_name = '{name}' AND state = 'active'"
    assert server.execute(running) == [("SELECT pg_sleep(30)",)]
    with late.use() as again:
        assert again.run("SELECT 1").fetchone() == (1,)
    late.close()
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'")


def test_a_late_statement_is_an_error_of_psycopg() -> None:
    assert issubclass(Overdue, psycopg.OperationalError)


def test_tables_are_made_once(database: Database) -> None:
    with database.connect() as db:
        assert make_tables(db, 2) == ""
        assert db.run("SELECT $.add_partitions(4)").fetchone() == (4,)
        assert db.run("SELECT partition FROM $.lease ORDER BY 1").fetchall() == [(0,), (1,), (2,), (3,)]


def test_a_schema_without_tables_names_the_command_that_makes_them(server: Server) -> None:
    database = Database(server.dsn, "none")
    with pytest.raises(Unavailable, match="relay journal init") as caught, database.use() as db:
        db.run("SELECT * FROM $.cluster")
    database.close()
    assert caught.value.reason == "missing"


def test_a_server_that_is_away_is_unavailable() -> None:
    lost = Lasting(Database("host=127.0.0.1 port=1 user=relay password=hush", "none"))
    with pytest.raises(Unavailable, match="refused") as caught, lost.use():
        pass
    assert "hush" not in str(caught.value)
