"""What a relay costs the server stays the same over time: pages of a transaction, and sizes of tables."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from msgspec.structs import replace

from relay.postgres.connection import Database, PostgresConnection
from relay.postgres.lease import RENEW, Leases
from relay.postgres.log.segments import begin_segment
from relay.postgres.process import Process
from relay.postgres.state.state import PostgresState
from relay.store import Counts, Cursor, Parked
from tests.postgres import Server, run_server
from tests.unit.postgres.open_logs import LIMITS, append, open_logs

LANES = 5
TABLES = """
    SELECT oid::regclass::text, pg_total_relation_size(oid) FROM pg_class
    WHERE relkind = 'r' AND (relnamespace = '{schema}'::regnamespace OR relnamespace = 'pg_catalog'::regnamespace)
    AND NOT relname LIKE 'block_%' ORDER BY 1
"""
"""The tables of relay beside the log, and those in which the server keeps what it knows of tables, with their sizes."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: what it knows of tables is not of all tests' tables."""
    with run_server() as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(server.make_database()) as database:
        yield database


@pytest.fixture
def leases(database: Database) -> Iterator[Leases]:
    with closing(Leases(database, Process("a"), 60.0)) as leases:
        yield leases


@pytest.fixture
def state(database: Database, leases: Leases) -> Iterator[PostgresState]:
    with closing(PostgresState(database, leases.take(0))) as state:
        yield state


async def save(state: PostgresState, times: int) -> None:
    """Save the cursors of all lanes so many times."""
    for number in range(times):
        cursor = Cursor(0, number, [(number + 2, number + 4)], Counts(delivered=number))
        await state.save({f"lane{lane}": cursor for lane in range(LANES)}, number + 9)


def count_pages(db: PostgresConnection, statement: str) -> int:
    """Run a statement, and return the pages that the server touched for it; the least of some times."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {statement}"
    return min(int(db.run(explain).fetchall()[0][0][0]["Plan"]["Shared Hit Blocks"]) for _ in range(5))


async def test_a_snapshot_that_somebody_holds_slows_no_check_of_a_lease(
    database: Database, leases: Leases, state: PostgresState
) -> None:
    lease = state._lease
    renewal = {"seconds": 60.0, "instance": leases.process.instance, "partitions": [0], "epochs": [lease.epoch]}
    with database.connect() as dump, database.connect() as db:
        dump.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        dump.run("SELECT count(*) FROM $.segment")
        before = count_pages(db, lease.hold.rstrip(";"))
        for _ in range(500):
            db.run(RENEW, renewal)
        assert count_pages(db, lease.hold.rstrip(";")) <= before + 1


async def test_saves_are_as_quick_as_before_once_nobody_holds_a_snapshot(
    server: Server, database: Database, state: PostgresState
) -> None:
    update = "UPDATE $.cursor SET head = head WHERE partition = 0 AND connector = 'lane0'"
    await save(state, 5)
    with database.connect() as db:
        before = count_pages(db, update)
        with database.connect() as dump:
            dump.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
            dump.run("SELECT count(*) FROM $.cursor")
            await save(state, 300)
            assert count_pages(db, update) > 3 * before, "or the test shows nothing"
        server.execute(f"VACUUM {database.schema}.cursor")
        await save(state, 5)
        assert count_pages(db, update) <= before + 2
    assert (await state.load_cursor("lane0")) == Cursor(0, 4, [(6, 8)], Counts(delivered=4))


async def test_tables_stay_as_small_over_many_segments(
    server: Server, database: Database, state: PostgresState, leases: Leases
) -> None:
    """The server removes dead rows in between, as autovacuum does."""
    cuts = state.open_cuts("lane0")

    async def live() -> dict[object, object]:
        """Work through some segments; return the sizes of the tables then."""
        async with open_logs(database) as open_log:
            log = open_log(replace(LIMITS, retention=0))
            for _ in range(10):
                await append(log, b"{}")
                with database.use() as db:
                    begin_segment(db, 0, log._catalogue.newest, 0)
                await append(log, b"{}")
                await save(state, 5)
                numbers = await state.park(
                    [Parked("braze", None, None, None, "unreadable", "no id", 0, b"x" * 3000)] * 5
                )
                await state.unpark(numbers)
                await cuts.rewrite([])
                for number in range(10):
                    await cuts.append(b"[[%d,%d]]" % (number, number + 1))
                await log.keep(log.head)
            assert len(log._catalogue.segments) <= 2
        tables = TABLES.format(schema=database.schema)
        server.execute("VACUUM " + ", ".join(str(name) for name, _ in server.execute(tables)))
        return dict(server.execute(tables))

    for _ in range(3):  # until the room that deleted rows leave is used again
        await live()
    before, after = await live(), await live()
    assert {name: (before[name], size) for name, size in after.items() if size > before[name]} == {}
