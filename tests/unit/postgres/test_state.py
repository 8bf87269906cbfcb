"""The state of a partition in PostgreSQL, beside what every state promises."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, nullcontext
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace

from relay.api import User
from relay.postgres import overwrite
from relay.postgres.cluster import Cluster
from relay.postgres.connection import Database, Overdue, PostgresConnection
from relay.postgres.lease import Leases
from relay.postgres.process import Process
from relay.postgres.state.cursor import delete_cursor, read_now
from relay.postgres.state.parked_queries import ClusterParked
from relay.postgres.state.plugin_store import StoreTable
from relay.postgres.state.state import PostgresState
from relay.store import Attempts, Counts, Cursor, Erasure, Parked, ParkedQuery, Unavailable, Wanted
from relay.testing import make_event
from tests.postgres import Pooler, Server, run_server, start_shared_server

LEASE_S = 60.0
CURSOR = Cursor(2, 7, [(8, 10)], Counts(delivered=4, damaged=1))


class States:
    """States of partition 0, each of a process of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._leases = list[Leases]()
        self._opened = list[PostgresState]()

    def open(self) -> PostgresState:
        """Open the state, whoever has it."""
        with self.database.use() as db:
            db.run("UPDATE $.lease SET until = '-infinity'")
        self._leases.append(leases := Leases(self.database, Process(f"node {len(self._leases)}"), LEASE_S))
        self._opened.append(state := PostgresState(self.database, leases.take(0)))
        return state

    def list_parked(self) -> list[Parked]:
        return [*ClusterParked(Cluster(self.database)).read(ParkedQuery())]

    def close(self) -> None:
        for state in self._opened:
            state.close()
        for leases in self._leases:
            leases.close()
        self.database.close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The shared server. With a parameter, a server of its own: a test may read all its files."""
    with run_server() if hasattr(request, "param") else nullcontext(start_shared_server()) as server:
        yield server


@pytest.fixture
def states(server: Server) -> Iterator[States]:
    with closing(States(server.make_database())) as states:
        yield states


@pytest.fixture
def state(states: States) -> PostgresState:
    return states.open()


def refused(offset: int, **fields: Any) -> Parked:
    parked = Parked("braze", "heap", offset, "a.b", "refused", "HTTP 400", 1, b"{}")
    return replace(parked, **fields)


def unreadable(text: bytes) -> Parked:
    return Parked("braze", None, None, None, "unreadable", "no id", 0, text)


async def test_totals_are_right_whoever_changes_parked_events(states: States, state: PostgresState) -> None:
    parked = ClusterParked(Cluster(states.database))
    await state.park([refused(1), refused(2, key="ann", answer="no"), unreadable(b"x" * 3000), refused(2, part=1)])
    await state.park([refused(1, cause="bug", reason="longer than before"), refused(1, cause="too_large")])
    assert sum(parked.mark(ParkedQuery(connector="heap"))) == 3
    assert sum(parked.drop(ParkedQuery(numbers=[2]))) == 1
    with states.database.use() as db:
        counted = db.run("""
            SELECT partition, source, coalesce(connector, ''), cause, count(*), sum(size)
            FROM $.parked GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """).fetchall()
        kept = db.run("SELECT * FROM $.parked_total WHERE events > 0 ORDER BY 1, 2, 3, 4").fetchall()
    assert kept == counted
    assert [row[3:5] for row in counted] == [("unreadable", 1), ("refused", 1), ("too_large", 1)]


async def test_texts_and_keys_of_any_kind_are_parked(states: States, state: PostgresState) -> None:
    key = "k" + os.urandom(4000).hex()
    odd = refused(1, key=key, reason="a\0b", answer="\ud800", type="a\0")
    await state.park([odd, refused(2, key=key + "2", cause="order"), refused(3, key=key, cause="order")])
    found = {one.offset: one for one in states.list_parked()}
    assert (found[1].key, found[1].reason, found[1].answer, found[1].type) == (key, "a\0b", "\ud800", "a\0")
    assert [one.offset for one in await state.read_marked("heap", 10, 1000)] == [2], "3 waits for 1, which has its key"


async def test_many_events_are_parked_in_their_order(states: States, state: PostgresState) -> None:
    bodies = [b"%d" % number + b"x" * 5000 for number in range(1200)]
    numbers = await state.park([unreadable(body) for body in bodies])
    assert numbers == sorted(numbers)
    assert [one.body for one in states.list_parked()] == bodies


async def test_a_new_connector_begins_where_the_last_holder_ended(states: States, state: PostgresState) -> None:
    assert state.now == 0
    await state.save({"heap": Cursor(0, 3)}, 5)
    assert states.open().now == 5
    await states.open().save({}, 9)
    assert states.open().now == 9


async def test_a_state_that_cannot_be_opened_leaves_nothing_behind(server: Server, states: States) -> None:
    with states.database.use() as db:
        db.run("ALTER TABLE $.cursor RENAME TO nowhere")
        with pytest.raises(Unavailable):
            states.open()
        before = count_sessions(server)
        for _ in range(3):
            with pytest.raises(Unavailable):
                states.open()
        async with asyncio.timeout(60):
            while count_sessions(server) > before:
                await asyncio.sleep(0.01)
        assert db.run("SELECT until < clock_timestamp() FROM $.lease").fetchall() == [(True,)]
        db.run("ALTER TABLE $.nowhere RENAME TO cursor")
    states.open()


def count_sessions(server: Server) -> int:
    return len(server.execute("SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'"))


async def test_cuts_are_there_after_a_takeover(states: States, state: PostgresState) -> None:
    cuts = state.open_cuts("heap")
    await cuts.rewrite([b"[[0,5]]"])
    await cuts.append(b"[[5,7]]")
    later = states.open()
    lines = later.open_cuts("heap")
    assert lines.load() == [b"[[0,5]]", b"[[5,7]]"]
    with pytest.raises(Unavailable) as caught:
        await cuts.append(b"[[7,9]]")
    assert caught.value.reason == "taken"
    await lines.rewrite([b"[[5,7]]"])
    assert later.open_cuts("heap").load() == [b"[[5,7]]"]
    lines.remove()
    assert later.open_cuts("heap").load() == []


async def test_a_state_works_behind_a_pooler_of_transactions(server: Server) -> None:
    made = server.make_database()
    with (
        Pooler.run(server, sessions=4) as pooler,
        closing(States(Database(pooler.dsn, made.schema.strip('"')))) as states,
    ):
        state, store = states.open(), StoreTable(states.database, 0, "", "crm", "mine")
        await state.save({f"lane{number}": CURSOR for number in range(5)}, 12)
        await state.park([refused(1), refused(2), unreadable(b"x")])
        cuts = state.open_cuts("heap")
        await cuts.rewrite([b"[[0,5]]", b"[[5,6]]"])
        await cuts.append(b"[[6,7]]")
        await store.write({b"a": b"1", b"b": b"2"})
        await store.write({}, [b"b"])
        await state.unpark([2])
        await state.erasures.overwrite_deleted()
        await store.purge()
        again = states.open()
        assert [one.cursor for one in await again.read_lane_ledgers()] == [CURSOR] * 5
        assert [one.offset for one in states.list_parked()] == [1, None]
        assert again.open_cuts("heap").load() == [b"[[0,5]]", b"[[5,6]]", b"[[6,7]]"]
        assert await store.scan(b"") == [(b"a", b"1")]
        with pytest.raises(Unavailable) as caught:
            await state.save({"heap": CURSOR}, 12)
        assert caught.value.reason == "taken"
        await store.close()


# A connection that is lost during COMMIT


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lose the connection at the next COMMIT that ends a transaction of the state, before or behind it."""
    run = PostgresConnection.run
    armed: list[bool] = []

    def lossy(db: PostgresConnection, statement: str, values: Any = None) -> Any:
        if statement != "COMMIT" or not armed:
            return run(db, statement, values)
        if armed.pop():
            run(db, statement, values)
        db.pgconn.finish()
        raise Overdue("planted")

    monkeypatch.setattr(PostgresConnection, "run", lossy)
    return armed.append


async def test_events_are_parked_once_when_the_answer_is_lost(
    states: States, state: PostgresState, lose: Callable[[bool], None]
) -> None:
    lose(True)
    (number,) = await state.park([refused(1)])
    assert [(one.number, one.attempts) for one in states.list_parked()] == [(number, 1)]
    assert state.refusing is None


async def test_events_are_parked_by_the_next_try_when_nothing_happened(
    states: States, state: PostgresState, lose: Callable[[bool], None]
) -> None:
    lose(False)
    with pytest.raises(Unavailable, match="planted"):
        await state.park([refused(1)])
    assert states.list_parked() == []
    await state.park([refused(1)])
    assert [one.attempts for one in states.list_parked()] == [1]


async def test_counts_of_an_erasure_do_not_double(state: PostgresState, lose: Callable[[bool], None]) -> None:
    await state.erasures.save_watch(1, [Erasure(asked=1.0, type="a", user=User("anna"))], [])
    lose(True)
    await state.erasures.add_counts({"events": {1: 3}}, 10)
    assert [one.events for one in await state.erasures.read_open()] == [3]


async def test_a_change_that_happens_late_begins_the_partition_anew() -> None:
    """A COMMIT waits for a standby that is away, and ends long after the caller was told that it had failed."""
    with run_server() as server, closing(States(server.make_database())) as states:
        state = states.open()
        state._transactions._lasting._deadline_s = 1.0
        server.reload(synchronous_standby_names="absent")
        for _ in range(2):
            with pytest.raises(Unavailable, match="has not answered"):
                await state.park([refused(1)])
        server.reload(synchronous_standby_names="")
        state._transactions._lasting._deadline_s = 10.0
        with pytest.raises(Unavailable, match="was made after all") as caught:
            await state.park([refused(1)])
        assert caught.value.reason == "taken"
        assert "was made after all" in await state.await_taken()
        assert [one.attempts for one in states.list_parked()] == [1]
        await states.open().park([refused(1)])
        assert [one.attempts for one in states.list_parked()] == [2]


# What was deleted


def find_files(server: Server, text: str) -> list[str]:
    """The files of a server with a text, without its write-ahead log."""
    server.execute("CHECKPOINT")
    files = [path for path in server.folder.rglob("*") if path.is_file() and "pg_wal" not in path.parts]
    return [str(path) for path in files if path.exists() and text.encode() in path.read_bytes()]


@pytest.fixture
async def store(states: States) -> AsyncIterator[StoreTable]:
    store = StoreTable(states.database, 0, "", "crm", "mine")
    yield store
    await store.close()


@pytest.mark.parametrize("server", ["with files of its own"], indirect=True)
async def test_an_erased_user_is_in_no_file_but_the_write_ahead_log(
    server: Server, states: States, state: PostgresState, store: StoreTable
) -> None:
    user, external = uuid4().hex, uuid4().hex
    wanted = Wanted({1: User(user, (external,))})
    body = make_event(user={"user_id": user}, filler=os.urandom(5000).hex())
    await state.save({"heap": Cursor(0, 9, [], Counts(parked=9))}, 9)
    asked = [Erasure(asked=1.0, type="a", user=User(user))] * 30  # ANALYZE samples what is common
    await state.erasures.save_watch(1, asked, [(user, f"{external}/{number}") for number in range(30)])
    await state.park([refused(1, body=body), refused(2, key=user), refused(3, reason=f"no {user}", answer=external)])
    await state.park([unreadable(body)])
    attempt = Attempts("heap", 0, [(5, 6)], 1, "pending", f"no {external}", 1.0, 2.0)
    await state.save({}, 9, (), {}, [attempt, replace(attempt, ranges=[(6, 7)])])
    await store.write({b"u/" + user.encode(): external.encode()})
    server.execute("ANALYZE")
    assert find_files(server, user)
    assert find_files(server, external)

    await state.erasures.erase_users("heap", wanted, {})
    await state.erasures.erase_users(None, wanted, {})
    opened = await state.erasures.read_open()
    await state.erasures.mark_erased(opened)
    await state.erasures.forget_ids([one.number for one in opened])
    await store.write({}, [b"u/" + user.encode()])
    await state.erasures.overwrite_deleted()
    await store.purge()
    assert [find_files(server, one) for one in (user, external)] == [[], []]


async def test_deleted_data_stays_until_nobody_sees_it(
    server: Server, states: States, state: PostgresState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overwrite, "SEEN_S", 0.1)
    secret = uuid4().hex
    numbers = await state.park([refused(1, reason=secret)])
    with psycopg.connect(server.dsn) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        await state.unpark(numbers)
        with pytest.raises(Unavailable, match=r"still sees .+ \(session \d+ of relay, since 2.+Z\)") as caught:
            await state.erasures.overwrite_deleted()
        assert caught.value.reason == "busy"
    await state.erasures.overwrite_deleted()
    assert find_files(server, secret) == []


async def test_a_connector_begins_when_the_first_partition_looks_for_it(states: States) -> None:
    state = states.open()
    assert await state.find_begun("heap") is None
    assert await state.load_cursor("heap") is None
    with states.database.use() as db:
        now = read_now(db)
    await state.save({"heap": Cursor(0, 0)}, 5)
    begun = await state.find_begun("heap")
    assert begun is not None
    assert begun <= now, "not only when it was saved"
    await state.save({"heap": Cursor(0, 5)}, 5)
    assert await state.find_begun("heap") == begun

    with states.database.use() as db:
        delete_cursor(db, "heap")
    assert await state.load_cursor("heap") is None
    await state.save({"heap": Cursor(5, 5)}, 5)
    again = await state.find_begun("heap")
    assert again is not None
    assert again > now, "a connector that was forgotten begins anew"
