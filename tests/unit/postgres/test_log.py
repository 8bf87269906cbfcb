"""What only the log in PostgreSQL has: several processes at once, damage to rows and tables, servers in trouble."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, nullcontext

import pytest
from msgspec.structs import replace

from relay.api import User
from relay.journal import compute_crc
from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database, PostgresConnection
from relay.postgres.log import writer
from relay.postgres.log.appender import PostgresAppender
from relay.postgres.log.known_ends import KnownEnds
from relay.postgres.log.log import PostgresLog
from relay.postgres.log.segments import LogEnd, begin_segment, find_log_end
from relay.postgres.log.view import PostgresLogView
from relay.store import EventIds, JournalLimits, Unavailable, Wanted
from relay.testing import make_event
from tests.postgres import Server, run_server, start_shared_server
from tests.unit.postgres.open_logs import KIND, LIMITS, Open, append, open_logs, read_to


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The shared server. With a parameter, a server of its own: a test may read all its files."""
    with run_server() if hasattr(request, "param") else nullcontext(start_shared_server()) as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with closing(server.make_database(partitions=2)) as database:
        yield database


@pytest.fixture
async def open_log(database: Database) -> AsyncIterator[Open]:
    """Opens logs of partition 0, and closes them."""
    async with open_logs(database) as open_log:
        yield open_log


def execute(database: Database, statement: str) -> None:
    with database.use() as db:
        db.run(statement)


def name_newest(database: Database) -> str:
    """Return the table that takes the next block."""
    with database.use() as db:
        ((name,),) = db.run("SELECT name FROM $.segment ORDER BY number DESC LIMIT 1").fetchall()
    return str(name)


async def test_two_processes_append_at_once_and_both_see_all(open_log: Open) -> None:
    logs = [open_log(memory=1 << 20), open_log(memory=0)]

    async def send(log: PostgresLog, number: int) -> dict[int, bytes]:
        bodies = [b'{"n":"%d-%d"}' % (number, place) for place in range(random.Random(number).randrange(1, 5))]
        return dict(enumerate(bodies, await append(log, *bodies)))

    readers = [log.open_reader() for log in logs]
    given = await asyncio.gather(*(send(logs[number % 2], number) for number in range(60)))
    sent = {offset: body for one in given for offset, body in one.items()}
    assert sorted(sent) == [*range(len(sent))]
    assert [await read_to(reader, len(sent)) for reader in readers] == [sent, sent]
    assert [log.head for log in logs] == [len(sent)] * 2


async def test_what_another_process_appends_wakes_a_reader_and_the_taps(open_log: Open, database: Database) -> None:
    log, tapped, own = open_log(), list[bytes](), list[bytes]()
    log.taps.add(lambda block: tapped.extend(block.bodies()))
    log.own_taps.add(lambda block: own.extend(block.bodies()))
    other = PostgresAppender(database, 0, LIMITS)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_to(log.open_reader(), 2))
        assert await append(other, b'{"theirs":1}') == 0
        assert await append(log, b'{"mine":1}') == 1
    assert reading.result() == {0: b'{"theirs":1}', 1: b'{"mine":1}'}
    assert (tapped, own) == ([b'{"theirs":1}', b'{"mine":1}'], [b'{"mine":1}'])
    await other.close()


async def test_an_id_that_two_processes_bring_at_once_is_kept_once(database: Database) -> None:
    appenders = [PostgresAppender(database, number % 2, LIMITS) for number in range(4)]
    chance, ids = random.Random(5), [str(number) for number in range(20)]

    async def send(appender: PostgresAppender) -> list[str]:
        mine = chance.sample(ids, 8)
        by = EventIds("braze", mine, 3600)
        async with appender.append_new([KIND] * len(mine), [one.encode() for one in mine], by) as fresh:
            return [mine[place] for place in fresh]

    async with asyncio.timeout(60):
        taken = await asyncio.gather(*(send(appenders[number % 4]) for number in range(40)))
        assert sorted(one for part in taken for one in part) == sorted(ids)
        for appender in appenders:
            await appender.close()


async def test_both_processes_go_on_when_either_begins_a_segment(open_log: Open, database: Database) -> None:
    first, second = open_log(), open_log()
    for number, log in enumerate([first, second, first, first, second]):
        execute(database, "SELECT $.begin_segment(0, (SELECT max(number) FROM $.segment), 0, 1000)")
        assert await append(log, b'{"n":%d}' % number) == number
    assert len(await read_to(second.open_reader(), 5)) == 5


async def test_a_row_that_was_changed_is_passed_over_and_told(open_log: Open, database: Database) -> None:
    log = open_log()
    for number in range(4):
        await append(log, b'{"n":%d}' % number, b"{}")
    execute(database, f"UPDATE $.{name_newest(database)} SET body = '{{\"n\":7}},{{}}' WHERE base = 4")
    found = await read_to(log.open_reader(), 8)
    assert [*found] == [0, 1, 2, 3, 6, 7]
    assert [(one.start, one.stop, one.reason) for one in log.unsaved_damage] == [(4, 6, "its checksum is wrong")]
    view = PostgresLogView(Cluster(database), 0, acknowledged=8)
    assert [(one.condition, one.events, one.is_whole) for one in view.check()] == [("damaged", 6, False)]
    survey = view.survey()
    assert (survey.kept, len(survey.problems)) == ([(0, 4), (6, 8)], 1)
    assert [block.offsets[0] for _, block in view.read(3)] == [3, 6]


async def test_a_row_that_was_deleted_is_passed_over_and_told(open_log: Open, database: Database) -> None:
    log = open_log()
    for _ in range(4):
        await append(log, b"{}", b"{}")
    execute(database, f"DELETE FROM $.{name_newest(database)} WHERE base IN (0, 4)")
    assert [*await read_to(log.open_reader(), 8)] == [2, 3, 6, 7]
    assert [(one.start, one.stop) for one in log.unsaved_damage] == [(0, 2), (4, 6)]
    assert await append(log, b"{}") == 8
    assert [one.condition for one in PostgresLogView(Cluster(database), 0, acknowledged=9).check()] == ["damaged"]


async def test_a_table_that_was_dropped_is_passed_over_and_told(open_log: Open, database: Database) -> None:
    log = open_log()
    names = []
    for number in range(3):
        await append(log, b'{"n":%d}' % number, b"{}")
        names.append(name_newest(database))
        log._writer.seal(log.head)
    execute(database, f"DROP TABLE $.{names[1]}")
    assert [*await read_to(log.open_reader(), 6)] == [0, 1, 4, 5]
    assert [(one.start, one.stop, one.file) for one in log.unsaved_damage] == [(2, 4, names[1])]
    view = PostgresLogView(Cluster(database), 0, acknowledged=6)
    assert [one.condition for one in view.check()] == ["good", "damaged", "good", "open"]
    assert view.survey().kept == [(0, 2), (4, 6)]
    execute(database, f"DROP TABLE $.{name_newest(database)}")
    assert await append(log, b"{}") == 6
    assert await read_to(log.open_reader(), 7, 6) == {6: b"{}"}


async def test_nothing_is_appended_to_the_same_table_of_another_cluster(open_log: Open, database: Database) -> None:
    database.cluster = Cluster(database).read_id()
    log = open_log()
    assert await append(log, b"{}") == 0
    execute(database, "UPDATE $.cluster SET id = gen_random_uuid()")
    said = f"holds cluster .* has worked with cluster {database.cluster}"
    with pytest.raises(Unavailable, match=said):
        await append(log, b"{}")
    with pytest.raises(Unavailable, match=said):
        async with log.append_new([KIND], [b"{}"], EventIds("braze", ["a"], 60.0)):
            pass
    with database.use() as db:
        assert db.run(f"SELECT count(*) FROM $.{name_newest(database)}").fetchall() == [(1,)]
        assert db.run("SELECT count(*) FROM $.seen").fetchall() == [(0,)]


async def test_a_segment_that_somebody_reads_is_removed_another_time(open_log: Open, database: Database) -> None:
    log = open_log(JournalLimits(max_size=1 << 30, retention=0.0))
    await append(log, b'{"n":0}')
    table = name_newest(database)
    log._writer.seal(log.head)
    await append(log, b'{"n":1}')
    with database.connect() as dump:
        dump.run("BEGIN")
        dump.run(f"SELECT count(*) FROM $.{table}")
        await log.keep(1)
        assert log.oldest == 0
        assert await append(log, b'{"n":2}') == 2
        dump.run("ROLLBACK")
    await log.keep(1)
    assert (log.oldest, [*await read_to(log.open_reader(), 3)]) == (1, [1, 2])


async def test_a_block_of_a_newer_relay_stops_readers_and_is_no_damage(open_log: Open, database: Database) -> None:
    log = open_log(replace(LIMITS, compress=True))
    await append(log, *[b'{"n":"a body that shrinks"}'] * 500)
    table = name_newest(database)
    with database.use() as db:
        ((meta, body),) = db.run(f"SELECT meta, body FROM $.{table}").fetchall()
        later = bytes(meta).replace(b'"zstd"', b'"lz9x"')
        db.run(f"UPDATE $.{table} SET meta = %b, crc = %s", [later, compute_crc(later, bytes(body), 500)])
    with pytest.raises(Unavailable, match="or later is needed"):
        await read_to(log.open_reader(), 500)
    assert log.lost == 0
    with pytest.raises(Unavailable, match="or later is needed"):
        PostgresLogView(Cluster(database), 0).check()


@pytest.mark.parametrize("server", ["with files of its own"], indirect=True)
async def test_the_bytes_of_an_erased_user_are_in_no_file_but_the_wal(
    open_log: Open, database: Database, server: Server
) -> None:
    log, secret = open_log(memory=1 << 20), f"anna-{random.randrange(1 << 60)}"
    for user in (secret, "bert", secret):
        bodies = [make_event(user={"user_id": user}, note="x" * 3000 * number) for number in range(3)]
        await append(log, *bodies)
        log._writer.seal(log.head)
    execute(database, f"UPDATE $.block_{int(name_newest(database)[6:]) - 1} SET crc = 7")

    def list_files() -> list[str]:
        server.execute("CHECKPOINT")
        files = [path for path in server.folder.rglob("*") if path.is_file()]
        return [str(path) for path in files if "pg_wal" not in path.parts and secret.encode() in path.read_bytes()]

    assert list_files()
    erased = [offset async for one in log.erase(Wanted({1: User(secret)}), log.head) for offset in one.erased]
    assert erased == [0, 1, 2]  # nobody can read the damaged row: it is removed as a whole
    assert list_files() == []
    found = await read_to(log.open_reader(), 9)
    assert [*found] == [0, 1, 2, 3, 4, 5]
    assert [(one.start, one.stop) for one in log.unsaved_damage] == [(6, 9)]


async def test_a_closed_log_refuses_and_ends_no_status_of_its_process(database: Database) -> None:
    log = PostgresLog(database, 0, LIMITS, 0)
    offset = await append(log, b"{}")
    await log.close()
    assert await log.find_received(offset) is None
    with pytest.raises(Unavailable, match="the log is closed"):
        await log.find_offset(0.0)
    with pytest.raises(Unavailable, match="the log is closed"):
        await log.check_room()
    await log.await_commit()
    await log.await_reads()


async def test_a_log_that_opens_while_others_append_has_lost_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PostgresAppender(database, 0, LIMITS)
    await append(other, b"{}")
    looks = []

    def look(db: PostgresConnection, partition: int) -> LogEnd | None:
        looks.append(end := find_log_end(db, partition))
        with database.connect() as busy:
            busy.run("SELECT $.append(0, %s, 0, 1, '', 'body', 1, 1000)", [end.newest])
        database.known_ends.note(0, end.stop + 1)
        return end

    monkeypatch.setattr(writer, "find_log_end", look)
    log = PostgresLog(database, 0, LIMITS, 0)
    assert (log.head, log.lost, [*log.unsaved_damage]) == (looks[-1].stop, 0, [])
    await log.close()
    await other.close()


async def test_a_log_that_opens_as_another_process_begins_it_has_its_events(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(db: PostgresConnection, partition: int) -> LogEnd | None:
        with database.connect() as busy:
            begin_segment(busy, 0, None, 0)
            (newest,) = busy.run("SELECT max(number) FROM $.segment").fetchone() or (0,)
            busy.run("SELECT $.append(0, %s, 0, 1, '', 'body', 1, 1000)", [newest])
        monkeypatch.undo()
        return find_log_end(db, partition)

    monkeypatch.setattr(writer, "find_log_end", look)
    log = PostgresLog(database, 0, LIMITS, 0)
    assert (log.oldest, log.head) == (0, 1)
    await log.close()


async def test_a_partition_without_segments_gives_no_offset_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "UPDATE $.journal_state SET head = 7 WHERE partition = 0")
    first = PostgresAppender(database, 0, LIMITS)
    assert await append(first, b"{}") == 7
    await first.close()
    execute(database, "TRUNCATE $.segment")
    execute(database, "INSERT INTO $.known_end VALUES (0, 9)")
    monkeypatch.setattr(database, "known_ends", KnownEnds())
    other = PostgresAppender(database, 0, LIMITS)
    assert await append(other, b"{}") == 9, "another process does not know of the first one's events"
    await other.close()
