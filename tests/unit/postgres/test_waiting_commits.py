"""COMMIT waits for a synchronous standby that is away. relay gives up, cancels nothing, and gives no offset twice."""

from collections.abc import Iterator
from contextlib import closing, nullcontext

import pytest

from relay.postgres.connection import Database, Lasting
from relay.postgres.schema import make_tables
from relay.store import Unavailable
from tests.postgres import Pooler, Replicated, start_shared_server

APPEND = "SELECT first_offset FROM $.append(0, (SELECT max(number) FROM $.segment), 0, 3, '', 'body', 1, 300)"


@pytest.fixture(scope="module")
def servers() -> Iterator[Replicated]:
    with Replicated.run(standbys=1) as servers:
        yield servers


def append(connection: Lasting) -> int:
    """Append a block of three events; return its offset."""
    with connection.use() as db:
        row = db.run(APPEND).fetchone()
        assert row is not None
        return int(row[0])


def begin_log(database: Database) -> None:
    with database.use() as db:
        make_tables(db, 1)
        db.run("SELECT $.begin_segment(0, NULL, 0, 1000)")


@pytest.mark.parametrize("way", ["directly", "through a pooler"])
def test_an_append_without_its_standby_is_decided_later(servers: Replicated, way: str) -> None:
    primary, standby = servers.primary, servers.standbys[0]
    with (
        Pooler.run(primary) if way == "through a pooler" else nullcontext(primary) as server,
        closing(Database(server.dsn, way)) as database,
        closing(Lasting(database, deadline_s=0.5)) as first,
        closing(Lasting(database)) as second,
    ):
        begin_log(database)
        assert append(first) == 0
        standby.freeze()
        try:
            with pytest.raises(Unavailable, match="has not answered"):
                append(first)
            with pytest.raises(Unavailable, match="another process holds the lock"):
                append(second)
            with second.use() as db:
                ends = "SELECT max(base + events) FROM $.block_1"
                assert db.run(ends).fetchone() == (3,)
        finally:
            standby.thaw()
        assert append(second) == 6
        assert append(first) == 9


def test_an_append_leaves_no_setting_in_a_session_of_the_pooler() -> None:
    server = start_shared_server()
    with closing(server.make_database()) as database, database.use() as db:
        db.run("SELECT $.begin_segment(0, NULL, 0, 1000)")
    show = "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit'), pg_backend_pid()"
    with (
        Pooler.run(server, sessions=1) as pooler,
        closing(Database(pooler.dsn, database.schema.strip('"'))) as pooled,
        closing(Lasting(pooled)) as one,
        closing(Lasting(pooled)) as other,
    ):
        with other.use() as db:
            before = db.run(show).fetchone()
        assert [append(each) for each in (one, other, one)] == [0, 3, 6]
        with other.use() as db:
            assert db.run(show).fetchone() == before
