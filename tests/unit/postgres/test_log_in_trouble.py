"""The log while its server is in trouble: no standby, a restart, an older database, a snapshot that stays."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest

from relay.postgres import snapshots
from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database
from relay.postgres.log import blocks
from relay.postgres.log.appender import PostgresAppender
from relay.postgres.log.log import PostgresLog
from relay.postgres.log.view import PostgresLogView
from relay.postgres.nodes import ClusterMembership
from relay.postgres.process import Process
from relay.postgres.schema import make_tables
from relay.store import EventIds, Unavailable
from tests.postgres import Replicated, Server, run_server
from tests.unit.postgres.open_logs import KIND, LIMITS, append, open_logs, read_to

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %s"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that the tests stop, freeze and restore."""
    with run_server(log_min_messages="notice") as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(server.make_database(partitions=2)) as database:
        yield database


@pytest.fixture
async def log(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresLog]:
    """A log that waits a short time for an answer or a lock."""
    monkeypatch.setattr(blocks, "LOCK_MS", 300)
    async with open_logs(database) as open_log:
        log = open_log(memory=1 << 20)
        log._writer.connection._deadline_s = 1.0
        log._writer.connection.close()
        yield log


async def await_head(log: PostgresLog, head: int) -> None:
    """Wait until the log has found what is there up to an offset."""
    while log.head < head:
        await asyncio.sleep(0.01)


async def test_an_append_without_its_standby_is_decided_later(log: PostgresLog, server: Server) -> None:
    reader = log.open_reader()
    assert await append(log, b'{"n":0}') == 0
    server.reload(synchronous_standby_names="ANY 1 (nobody)")
    try:
        with pytest.raises(Unavailable, match="has not answered"):
            await append(log, b'{"undecided":1}', b"{}")
        assert (log.head, log.refusing) == (1, log.refusing) != (1, None)
        with pytest.raises(Unavailable, match="another process holds the lock"):
            await append(log, b'{"refused":1}')
        assert server.execute(WAITING) == [(1,)]
    finally:
        server.reload(synchronous_standby_names="")
    assert await append(log, b'{"n":3}') == 3
    assert await read_to(reader, 4) == {0: b'{"n":0}', 1: b'{"undecided":1}', 2: b"{}", 3: b'{"n":3}'}
    assert "due to user request" not in server.log  # what a cancel leaves
    assert (log.refusing, log.lost) == (None, 0)


async def test_a_commit_whose_wait_an_admin_cancels_is_not_acknowledged(log: PostgresLog, server: Server) -> None:
    log.open_reader()
    server.reload(synchronous_standby_names="ANY 1 (nobody)")
    try:
        async with asyncio.TaskGroup() as group:
            appending = group.create_task(append_anyway(log, b"{}"))
            while server.execute(WAITING) != [(1,)]:
                await asyncio.sleep(0.01)
            server.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        assert isinstance(appending.result(), Unavailable)
        assert "canceling wait for synchronous replication" in str(appending.result())
    finally:
        server.reload(synchronous_standby_names="")
    await await_head(log, 1)  # it is there all the same: the sender sends it once more
    assert await append(log, b"{}") == 1


async def test_a_commit_that_waits_for_its_standby_is_no_held_snapshot(
    database: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LONG_S", 0.0)
    server.reload(synchronous_standby_names="ANY 1 (nobody)")
    async with asyncio.TaskGroup() as group:
        making = f"CREATE TABLE {database.schema}.waits ()"
        group.create_task(asyncio.to_thread(server.execute, making), name="a commit")
        try:
            while server.execute(WAITING) != [(1,)]:
                await asyncio.sleep(0.01)
            with database.use() as db:
                held = [str(one) for one in snapshots.find_long_snapshots(db)]
        finally:
            server.reload(synchronous_standby_names="")
    assert len(held) == 1, held  # of the session that asks


async def append_anyway(log: PostgresLog, body: bytes) -> int | Unavailable:
    """Append an event; return its offset, or the error."""
    try:
        return await append(log, body)
    except Unavailable as error:
        return error


async def test_ids_of_an_undecided_append_are_duplicates_once_it_is_there(
    log: PostgresLog, database: Database, server: Server
) -> None:
    by = EventIds("braze", ["a", "b"], 3600)
    await append(log, b"{}")
    server.reload(synchronous_standby_names="ANY 1 (nobody)")
    try:
        with pytest.raises(Unavailable, match="has not answered"):
            async with log.append_new([KIND] * 2, [b"a", b"b"], by):
                pass
    finally:
        server.reload(synchronous_standby_names="")
    async with log.append_new([KIND] * 2, [b"a", b"b"], by) as fresh:
        assert [*fresh] == []
    log.open_reader()
    await await_head(log, 3)


async def test_a_log_goes_on_after_its_server_was_restarted(log: PostgresLog, server: Server) -> None:
    reader = log.open_reader()
    await append(log, b'{"n":0}')
    server.stop(signal.SIGQUIT)
    try:
        with pytest.raises(Unavailable):
            await append(log, b'{"refused":1}')
        with pytest.raises(Unavailable):
            await log.find_offset(0.0)
    finally:
        server.start()
    assert await append(log, b'{"n":1}') == 1
    assert await read_to(reader, 2) == {0: b'{"n":0}', 1: b'{"n":1}'}
    assert (log.failed, log.failing) == (1, False)


async def test_offsets_that_an_older_database_lacks_are_told_and_not_given_again(
    log: PostgresLog, database: Database, server: Server
) -> None:
    reader = log.open_reader()
    await append(log, b'{"n":0}', b'{"n":1}')
    server.stop()
    backup = server.folder.with_name("backup")
    server.run("cp", "-a", str(server.folder), str(backup))
    server.start()
    assert await append(log, b'{"lost":2}', b'{"lost":3}') == 2
    server.stop()
    shutil.rmtree(server.folder)
    backup.rename(server.folder)
    server.start()
    while not log.unsaved_damage:
        await asyncio.sleep(0.01)
    assert [(one.start, one.stop) for one in log.unsaved_damage] == [(2, 4)]
    assert "came back without them" in log.unsaved_damage[0].reason
    await log.await_commit()
    with closing(Database(server.dsn, database.schema.strip('"'))) as elsewhere:
        other = PostgresAppender(elsewhere, 0, LIMITS)  # another process, which knows of nothing
        assert await append(other, b'{"n":4}') == 4
        await other.close()
    assert await append(log, b'{"n":5}') == 5
    await await_head(log, 6)
    log._tail.clear()
    assert await read_to(reader, 6) == {at: b'{"n":%d}' % at for at in (0, 1, 4, 5)}
    survey = PostgresLogView(Cluster(database), 0, acknowledged=6).survey()
    assert (survey.kept, len(survey.problems)) == ([(0, 2), (4, 6)], 1)


async def test_a_log_that_opens_without_acknowledged_events_begins_behind_them(database: Database) -> None:
    async with open_logs(database) as open_log:
        log = open_log()
        await append(log, b"{}", b"{}")
        with database.use() as db:
            db.run("UPDATE $.journal_state SET head = 5 WHERE partition = 0")
        again = open_log()
        assert (again.head, [(one.start, one.stop) for one in again.unsaved_damage]) == (5, [(2, 5)])
        assert await append(again, b"{}") == 5


@pytest.mark.long  # quicker: test_growth, for leases and saves
async def test_a_snapshot_that_somebody_holds_makes_no_append_slower(log: PostgresLog, database: Database) -> None:
    """Pages are counted, not times."""
    with database.connect() as dump, database.connect() as counting:
        counting.run(
            "CREATE FUNCTION $.count_pages() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE plan json; BEGIN "
            "EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT * FROM $.append(0, "
            "(SELECT max(number) FROM $.segment), 0, 1, '''', ''body'', 1, 1000)' INTO plan; "
            "RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint; END $$"
        )

        def count_pages() -> int:
            """Append, and return the pages that the server touched for it; the least of some times."""
            return min(counting.run("SELECT $.count_pages()").fetchall()[0][0] for _ in range(20))

        await append(log, b"{}")
        dump.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        dump.run("SELECT count(*) FROM $.segment")
        for _ in range(500):  # until the index has its height
            counting.run("SELECT $.count_pages()")
        before = count_pages()
        for _ in range(1500):
            counting.run("SELECT $.count_pages()")
        assert count_pages() <= before + 1
        dump.run("ROLLBACK")


async def test_a_standby_that_lacks_events_gives_none_of_their_offsets_again() -> None:
    with Replicated.run(standbys=1) as servers:
        servers.primary.reload(synchronous_standby_names="")
        with (
            closing(Database(servers.dsn, "relay")) as of_holder,
            closing(Database(servers.dsn, "relay")) as of_sender,
            closing(Database(servers.dsn, "relay")) as of_successor,
        ):
            with of_holder.connect() as db:
                make_tables(db, 1)
            members = [
                ClusterMembership(one, Process(name), 10.0) for one, name in ((of_holder, "a"), (of_sender, "b"))
            ]
            for member in members:
                member.join()
                member.find_wanted()
            async with open_logs(of_holder) as open_log:
                log = open_log()
                assert await append(log, b'{"n":0}') == 0
                ((committed,),) = servers.primary.execute("SELECT pg_current_wal_lsn()")
                while servers.standbys[0].execute(REPLAYED, [committed]) != [(True,)]:
                    await asyncio.sleep(0.01)
                servers.standbys[0].stop()
                assert await append(log, b'{"lost":1}', b'{"lost":2}') == 1
                sender = PostgresAppender(of_sender, 0, LIMITS)
                assert await append(sender, b'{"lost":3}') == 3
            servers.primary.kill()
            servers.standbys[0].start()
            servers.promote()
            servers.primary.reload(synchronous_standby_names="")
            async with open_logs(of_successor) as open_log:
                with pytest.raises(Unavailable, match="a, b has yet to tell how far the events had come"):
                    open_log()
                members[0].find_wanted()
                with pytest.raises(Unavailable, match="b has yet to tell"):
                    await append(sender, b'{"refused":1}')
                members[1].find_wanted()
                assert await append(sender, b'{"n":4}') == 4
                log = open_log()
                assert log.head == 5
                assert await read_to(log.open_reader(), 5) == {0: b'{"n":0}', 4: b'{"n":4}'}
                assert [(one.start, one.stop) for one in log.unsaved_damage] == [(1, 4)]
            await sender.close()
            survey = PostgresLogView(Cluster(of_successor), 0, acknowledged=5).survey()
            assert (survey.kept, len(survey.problems)) == ([(0, 1), (4, 5)], 1)
