"""Erasures in a running fleet: whatever lanes have in memory, whoever else needs the books, whatever connectors say."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.api import (
    DELIVERED,
    Batch,
    Connector,
    ConnectorSettings,
    Kind,
    Outcome,
    Reject,
    Retry,
    Secret,
    Skipped,
    User,
)
from relay.config.model import Config, Configured, ErasureSettings
from relay.deliver import lane
from relay.deliver.fleet import Fleet
from relay.erasure import destinations as telling
from relay.erasure import eraser as erasing
from relay.erasure.eraser import Eraser
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.state.erasure import table
from relay.state.erasure.table import FolderErasures
from relay.state.ledger import read_ledger
from relay.state.replays import FolderReplays
from relay.store import Counts, Cursor, Erasure, ParkedQuery, Replay, Unavailable, make_digest
from relay.store.log import JournalLimits
from relay.testing import make_event
from tests.parked import list_parked, mark_parked

KIND = Kind("braze", "users.messages.email.Open")
DELETE = Kind("braze", "users.UserDeleteRequest")
SECRET = "s3cr3t-key"


def body(user: str, external: str | None = None, **more: Any) -> bytes:
    return make_event(user={"user_id": user} | ({"external_user_id": external} if external else {}), **more)


class Odd(Connector, type="odd"):
    """Does as the test says."""

    class Settings(ConnectorSettings):
        token: Secret | None = None

    said: Callable[[], Sequence[Outcome] | None]
    answer: Callable[[Batch], None]

    async def open(self) -> None:
        self.taken: list[bytes] = []
        self.erased: list[list[User]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.may_erase = asyncio.Event()
        self.may_erase.set()
        self.at_once = 0
        self.answer = lambda batch: None
        self.said = lambda: None

    async def deliver(self, batch: Batch) -> None:
        self.at_once += len(batch)
        try:
            await self.gate.wait()
            self.answer(batch)
            self.taken += batch.bodies()
        finally:
            self.at_once -= len(batch)

    async def erase(self, users: Sequence[User]) -> Sequence[Outcome] | None:
        self.erased.append([*users])
        await self.may_erase.wait()
        return self.said()


class Bench:
    """A fleet of one lane with its eraser."""

    def __init__(self, folder: Path, erasure: dict[str, Any], settings: dict[str, Any], retention: float) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal", JournalLimits(1 << 30, retention), 1 << 20)
        self.state = StateDatabase(folder)
        self.fleet = Fleet(self.journal, self.state, folder)
        self.eraser = Eraser(self.fleet, self.journal, self.state, ErasureSettings.model_validate(erasure))
        quick = {"from": "oldest", "retry": {"first": "1ms", "max": "2ms"}, "batch": {"events": 10, "age": "0ms"}}
        made = Odd.Settings.model_validate({"type": "odd"} | quick | settings)
        self.config = Config(connectors={"it": Configured("it", Odd, made)})  # type: ignore[dict-item,arg-type]

    @property
    def it(self) -> Odd:
        connector = self.fleet.lanes[0].connector
        assert isinstance(connector, Odd)
        return connector

    async def send(self, *bodies: bytes, kind: Kind = KIND) -> None:
        await self.journal.append([kind] * len(bodies), list(bodies))

    async def until(self, good: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not good():
                await asyncio.sleep(0.005)

    async def erased(self, **counts: int) -> Erasure:
        """Wait until the one erasure is done, and the books say so."""
        await self.until(
            lambda: FolderErasures(self.folder).read() and all(one.done for one in FolderErasures(self.folder).read())
        )
        await self.until(lambda: read_ledger(self.folder)["it"].counts == Counts(**counts))
        return FolderErasures(self.folder).read()[0]


def make_due(folder: Path, condition: str = "TRUE") -> None:
    """Have erasures that wait for an hour be due at once, all together."""
    with closing(sqlite3.connect(folder / "relay.db", timeout=10)) as db, db:
        db.execute(f"UPDATE erasure SET asked = asked - 3600 WHERE {condition}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "REST_S", 0.05)
    for module in (erasing, telling):
        monkeypatch.setattr(module, "LOOK_S", 0.005)
    monkeypatch.setattr(erasing, "AGAIN_S", 0.05)


@asynccontextmanager
async def bench(
    folder: Path, erasure: dict[str, Any] | None = None, retention: float = 3600.0, **settings: Any
) -> AsyncIterator[Bench]:
    bench = Bench(folder, {"after": "0s"} | (erasure or {}), settings, retention)
    await bench.fleet.open(bench.config)
    await bench.eraser.open()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.fleet.run(), name="fleet")
        erase = group.create_task(bench.eraser.run(), name="erase")
        await bench.fleet.lanes[0].opener.wait_until_open()
        try:
            yield bench
        finally:
            erase.cancel()
            bench.fleet.stop()
            async with asyncio.timeout(30):
                await asyncio.wait([running])
    await bench.journal.close()
    bench.state.close()


async def test_what_hangs_at_the_destination_is_not_sent_again(tmp_path: Path) -> None:
    async with bench(tmp_path, concurrency=2) as it:
        it.it.gate.clear()
        await it.send(*[body(user) for user in ("anna", "bert") * 10])
        await it.until(lambda: it.it.at_once == 20)
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: it.it.at_once == 10)
        it.it.gate.set()
        one = await it.erased(delivered=10, erased=10)
        assert not any(b"anna" in taken for taken in it.it.taken)
        assert one.events == 10


async def test_erasures_of_a_time_without_relay_come_before_the_lanes(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.fleet.stop_lanes()
        await it.send(*[body(user) for user in ("anna", "bert")])
    FolderErasures(tmp_path).ask(User("anna"))
    async with bench(tmp_path) as it:
        await it.erased(delivered=1, erased=1)
        assert [b"bert" in taken for taken in it.it.taken] == [True]


async def test_connectors_get_nothing_of_a_user_whose_erasure_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("the disk is full")

    async with bench(tmp_path) as it:
        it.fleet.stop_lanes()
        await it.send(body("anna"), body("anna", "a1"), body("bert"))
    FolderErasures(tmp_path).ask(User("anna"))
    with monkeypatch.context() as failing:
        failing.setattr(Journal, "erase", fail)
        async with bench(tmp_path) as it:
            await it.send(body("hash", "a1"), body("bert"))
            await it.until(lambda: it.fleet.lanes[0].cursor.position == 5)
            assert [b"bert" in taken for taken in it.it.taken] == [True, True]
            assert [one.reason for one in FolderErasures(tmp_path).find_failing()] == ["the disk is full"]
            failing.undo()
            receipt = await it.erased(delivered=2, erased=3)
            assert receipt.events == 3
            await it.send(body("anna"))
            await it.until(lambda: len(it.it.taken) == 3)  # it came later, and stays


async def test_a_replay_forgets_the_user_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(*[body(user) for user in ("anna", "bert") * 2])
        await it.until(lambda: it.fleet.lanes[0].cursor.position == 4)
        it.it.gate.clear()
        FolderReplays(tmp_path).ask(Replay("it", Cursor(0, 0), 4))
        await it.until(lambda: it.it.at_once == 4)
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: it.it.at_once == 2)
        it.it.gate.set()
        await it.until(lambda: FolderReplays(tmp_path).read()[0].status == "done")
        assert FolderReplays(tmp_path).read()[0].cursor.counts == Counts(delivered=2, erased=2)
        await it.erased(delivered=4)


async def test_events_that_wait_for_an_earlier_one_of_their_key_go(tmp_path: Path) -> None:
    async with bench(tmp_path, order_by="user.user_id", batch={"events": 1, "age": "0ms"}) as it:
        it.it.gate.clear()
        await it.send(*[body(user, n=n) for n in range(5) for user in ("anna", "bert")])
        await it.until(lambda: it.it.at_once == 2)
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: FolderErasures(tmp_path).read()[0].compacted)
        it.it.gate.set()
        await it.erased(delivered=5, erased=5)
        assert not any(b"anna" in taken for taken in it.it.taken)


@pytest.mark.parametrize("again", [False, True])
async def test_parked_events_are_erased_once_even_during_their_redelivery(tmp_path: Path, again: bool) -> None:
    def refuse(batch: Batch) -> None:
        raise Reject("HTTP 400: anna is not known")

    async with bench(tmp_path, order_by="user.user_id", after_parked="park") as it:
        await it.state.read(
            lambda db: db.execute("PRAGMA secure_delete = OFF").close()
        )  # as it is where SQLite was not built otherwise
        it.it.answer = refuse
        await it.send(*[body(user) for user in ("anna", "bert", "anna")])
        await it.until(lambda: len(list_parked(tmp_path)) == 3)
        if again:
            it.it.gate.clear()
            mark_parked(tmp_path, ParkedQuery())
            await it.until(lambda: it.it.at_once == 2)
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: FolderErasures(tmp_path).read()[0].compacted)
        (one,) = list_parked(tmp_path)
        assert (one.offset, one.reason, one.key) == (1, "HTTP 400: ... is not known", "bert")
        it.it.answer = lambda batch: None
        it.it.gate.set()
        mark_parked(tmp_path, ParkedQuery())
        receipt = await it.erased(delivered=1, erased=2)
        assert (receipt.parked, receipt.events) == (2, 2)
        assert not any(b"anna" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert list_parked(tmp_path) == []


async def test_events_of_connectors_that_do_not_run_go_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.it.answer = lambda batch: (_ for _ in ()).throw(Reject("no"))
        await it.send(body("anna"), body("bert"))
        await it.until(lambda: read_ledger(tmp_path)["it"].counts.parked == 2)
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
        for table in ("cursor", "parked", "attempt"):
            db.execute(f"UPDATE {table} SET connector = 'gone'")
        db.execute("UPDATE parked SET body = CAST(replace(body, 'anna', 'hash') AS BLOB)")  # as a filter would
    async with bench(tmp_path) as it:
        await it.until(lambda: it.fleet.lanes[0].cursor.position == 2)
        FolderErasures(tmp_path).ask(User("anna"))
        receipt = await it.erased(delivered=2)
        assert receipt.parked == 1
    assert read_ledger(tmp_path)["gone"].counts == Counts(parked=1, erased=1)
    assert [one.offset for one in list_parked(tmp_path)] == [1]


async def test_a_connector_is_told_until_it_has_erased_everybody(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    said: list[Any] = [
        Retry(f"busy with anna and {SECRET}"),
        KeyError("anna"),
        [DELIVERED],
        [Retry("not yet"), DELIVERED, Skipped("no id of carl")],
        [Reject("HTTP 400: anna?")],
    ]

    def say() -> Any:
        if not said:
            return None
        if isinstance(now := said.pop(0), Exception):
            raise now
        return now

    async with bench(tmp_path, {"after": "1h"}, token={"file": str(tmp_path / "key")}) as it:
        it.it.said = say
        await it.send(body("anna", "a1"), body("carl"))
        await it.until(lambda: it.fleet.lanes[0].cursor.position == 2)
        with capture_logs() as logs:
            for user in ("anna", "bert", "carl"):
                FolderErasures(tmp_path).ask(User(user))
            make_due(tmp_path)
            await it.erased(delivered=2)
        assert len(it.it.erased) >= 6
        assert it.it.erased[-1] == [User("anna", ("a1",))]
        found = {one.number: one.answers[0] for one in FolderErasures(tmp_path).read()}
        assert [found[number].outcome for number in (1, 2, 3)] == ["done", "done", "skipped"]
        assert found[3].reason == "no id of ..."
        told = [str(line) for line in logs if "anna" in str(line) or SECRET in str(line)]
        assert told == []
        assert any("busy with ... and ..." in str(line) for line in logs)
        levels = {
            line["reason"]: line["log_level"] for line in logs if line["event"] == "erasing failed at the connector"
        }
        assert (levels["not yet"], levels["HTTP 400: ...?"]) == ("warning", "error"), "only one mends itself"
        assert any("2 outcomes" in str(line) or "1 outcomes" in str(line) for line in logs)


async def test_a_connector_that_a_reload_is_just_making_anew_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    async with bench(tmp_path) as it:
        connector = it.it
        connector.may_erase.clear()
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: connector.erased)
        lanes, it.fleet._lanes = it.fleet._lanes, {}
        read_open = it.state.erasures.read_open
        monkeypatch.setattr(it.state.erasures, "read_open", lambda: looks.append(1) or read_open())
        await it.until(lambda: len(looks) > 3)
        it.fleet._lanes = lanes
        connector.may_erase.set()
        await it.until(lambda: FolderErasures(tmp_path).read()[0].done)
        assert [(one.connector, one.outcome) for one in FolderErasures(tmp_path).read()[0].answers] == [("it", "done")]


async def test_who_is_stopped_before_the_first_answer_still_has_it_to_do(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.it.may_erase.clear()
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: it.it.erased)
    (one,) = FolderErasures(tmp_path).read()
    assert [(each.connector, each.outcome, each.reason) for each in one.answers] == [("it", "failed", "cut short")]
    assert not one.is_over([]), "whether it is configured at the next start or not"
    async with bench(tmp_path) as it:
        await it.erased()


async def test_a_stop_continues_when_the_ledger_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(db: sqlite3.Connection, *_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with bench(tmp_path) as it:
        it.it.may_erase.clear()
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: it.it.erased)
        monkeypatch.setattr(table, "save_answers", full)
        with capture_logs() as logs:
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                task = group.create_task(it.eraser.run())
                await it.until(lambda: len(it.it.erased) > 1)
                task.cancel()
        assert [(line["event"], line["error"]) for line in logs] == [
            ("erasures cannot be kept", "database or disk is full")
        ]
        monkeypatch.undo()


async def test_who_was_erased_and_comes_again_is_in_the_map_again(tmp_path: Path) -> None:
    async with bench(tmp_path, {"identities": True}) as it:
        await it.send(body("anna", "a1"))
        await it.until(lambda: it.eraser.watch_position == it.fleet.lanes[0].cursor.position == 1)
        FolderErasures(tmp_path).ask(User("anna"))
        await it.erased(delivered=1)
        await it.send(body("anna", "a1"))
        await it.until(lambda: it.eraser.watch_position == 2)
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert db.execute("SELECT * FROM identity").fetchall() == [("anna", "a1")]


async def test_external_ids_that_are_only_in_the_map_are_known(tmp_path: Path) -> None:
    async with bench(tmp_path, {"identities": True}, retention=0.0) as it:
        await it.send(body("anna", "a1"), body("bert", "b1"))
        await it.until(lambda: it.eraser.watch_position == 2)
        it.journal._writer.seal(it.journal.head)
        await it.send(make_event(user={"external_user_id": "a1"}))
        await it.until(lambda: it.journal.oldest == 2 and it.fleet.lanes[0].cursor.position == 3)
        FolderErasures(tmp_path).ask(User("anna"))
        one = await it.erased(delivered=3)
        assert (one.events, sorted(one.digests)) == (1, sorted([make_digest("anna"), make_digest("a1")]))
        assert it.it.erased == [[User("anna", ("a1",))]]
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert db.execute("SELECT * FROM identity").fetchall() == [("bert", "b1")]


async def test_events_that_ask_are_noticed_once_also_those_of_a_time_without_us(tmp_path: Path) -> None:
    on = {"on": [DELETE.type], "after": "1h"}
    async with bench(tmp_path, {"after": "1h"}) as it:
        await it.send(body("too early"), kind=DELETE)
    async with bench(tmp_path, on) as it:
        await it.send(body("anna"), kind=DELETE)
        await it.until(lambda: len(FolderErasures(tmp_path).read()) == 1)
    async with bench(tmp_path, {"after": "1h"}) as it:
        await it.send(body("bert"), make_event(user={}), kind=DELETE)
        await it.send(body("carl"))
    with capture_logs() as logs:
        async with bench(tmp_path, on) as it:
            await it.until(lambda: len(FolderErasures(tmp_path).read()) == 2)
            await it.until(lambda: it.eraser.watch_position == 5)
    assert [(one.user.user_id, one.offset, one.type, one.source) for one in FolderErasures(tmp_path).read()] == [
        ("bert", 2, DELETE.type, "braze"),
        ("anna", 1, DELETE.type, "braze"),
    ]
    assert [line["offset"] for line in logs if "names no user" in line["event"]] == [3]


async def test_an_erasure_of_a_damaged_journal_waits_and_the_receipt_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(body("anna"))
        await it.until(lambda: it.fleet.lanes[0].cursor.position == 1)
        (segment,) = it.journal._writer.seal(it.journal.head)
        whole = segment.path.read_bytes()
        segment.path.write_bytes(whole[:-9] + b"?" + whole[-8:])
        FolderErasures(tmp_path).ask(User("anna"))
        await it.until(lambda: FolderErasures(tmp_path).read()[0].problem)
        assert "stop relay, relay journal repair" in (FolderErasures(tmp_path).read()[0].problem or "")
        segment.path.write_bytes(whole)
        one = await it.erased(delivered=1)
        assert (one.problem, one.events) == (None, 1)


async def test_a_reader_of_the_database_is_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(body("anna"))
        await it.until(lambda: it.fleet.lanes[0].cursor.position == 1)
        with closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as db:
            FolderErasures(tmp_path).ask(User("anna"))
            db.execute("BEGIN")
            db.execute("SELECT * FROM erasure").fetchall()
            await it.state.read(lambda db: db.execute("PRAGMA busy_timeout = 50").close())
            await it.until(lambda: FolderErasures(tmp_path).read()[0].problem)
            db.execute("COMMIT")
        await it.erased(delivered=1)


async def test_users_are_taken_together_and_those_who_are_not_due_wait(tmp_path: Path) -> None:
    async with bench(tmp_path, {"after": "1h"}) as it:
        await it.send(body("anna"), body("bert"), body("anna"))
        for user in ("anna", "bert", "anna"):
            FolderErasures(tmp_path).ask(User(user))
        make_due(tmp_path, "number != 2")
        await it.until(lambda: FolderErasures(tmp_path).read()[0].done)
        third, second, first = FolderErasures(tmp_path).read()
        assert (first.events, second.events, third.events) == (2, 0, 2)
        assert (first.status, second.status, third.status) == ("done", "waiting", "done")
        assert len(it.it.erased) == 1
