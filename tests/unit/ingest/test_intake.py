"""What a source counts, and that nothing a sender does waits for the counting."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from structlog.testing import capture_logs

from relay.api import LARGE, Decoded, Request, Source, SourceSettings
from relay.config.address import TcpAddress
from relay.config.model import IngestSettings
from relay.ingest import intake, server, source_saver
from relay.ingest.body_memory import BodyMemory
from relay.ingest.intake import Intake
from relay.ingest.server import Ingest
from relay.ingest.to_first_worker import First
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.state.ledger import read_source_ledgers
from relay.state.state_folder import FolderInbox
from relay.store import Refusals, SourceLedger
from relay.store.clock import Clock, read_uptime
from relay.store.error import Unavailable
from relay.store.log import JournalLimits
from relay.testing import make_event
from relay_plugins.currents import Currents
from tests.parked import list_parked


class Bare(Source):
    """Has one event of every body, and does not tell its id."""

    def decode(self, request: Request) -> Decoded:
        if request.body == b"bug":
            raise ZeroDivisionError
        return Decoded([self.kind("bare")], [request.body])


class Relay:
    """Ingest, journal and state of one folder, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = ["braze", "bare"]
        self.jump = self.passed = 0.0
        """Seconds by which the clock has jumped, and by which the uptime is ahead."""
        self.made: dict[str, type[Source]] = {"braze": Currents, "bare": Bare}

    async def start(self) -> None:
        settings = SourceSettings.model_validate({"type": "any", "path": "/any", "dedupe": "1h"})
        all_of_them = [
            self.made[name](name, settings.model_copy(update={"path": f"/{name}", "type": name})) for name in self.names
        ]
        clock = Clock(None, lambda: time.time() + self.jump, lambda: read_uptime() + self.passed)
        self.journal = Journal(self.folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20, clock=clock)
        self.state = StateDatabase(self.folder)
        listening = IngestSettings(listen=(TcpAddress("127.0.0.1", 0),))
        self.ingest = Ingest(all_of_them, listening, FolderInbox(self.journal, self.state))
        (self.url,) = await self.ingest.start()

    async def stop(self) -> None:
        await self.ingest.stop()
        await self.journal.close()
        self.state.close()

    async def post(self, body: bytes, source: str = "braze") -> tuple[int, Any]:
        async with aiohttp.request("POST", f"{self.url}/{source}", data=body) as answer:
            return answer.status, await answer.json(content_type=None) if answer.status != 500 else None

    @property
    def refusals(self) -> Refusals | None:
        """What the clock of braze says, however short it runs."""
        return self.ingest.intakes["braze"].refusal_clock.refusals


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(tmp_path)
    await relay.start()
    yield relay
    await relay.stop()


def body_of(*events: bytes) -> bytes:
    return b'{"events":[%s]}' % b",".join(events)


EVENT = make_event()


async def test_a_body_with_nothing_but_duplicates_is_202_and_costs_no_journal(relay: Relay) -> None:
    assert await relay.post(body_of(EVENT)) == (202, {"accepted": 1, "parked": 0, "duplicates": 0})
    for _ in range(2):
        assert await relay.post(body_of(EVENT, EVENT)) == (202, {"accepted": 0, "parked": 0, "duplicates": 2})
    assert relay.journal.head == 1


async def test_duplicates_are_counted_over_restarts(relay: Relay) -> None:
    await relay.post(body_of(EVENT, EVENT))
    await relay.stop()
    await relay.start()
    await relay.post(body_of(EVENT))
    await relay.stop()
    assert read_source_ledgers(relay.folder) == [SourceLedger("bare"), SourceLedger("braze", 2)]
    await relay.start()


async def test_duplicates_are_saved_while_relay_runs(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_saver, "SAVE_S", 0.01)
    for duplicates in (1, 3):
        await relay.post(body_of(EVENT, EVENT))
        async with asyncio.timeout(30):
            while SourceLedger("braze", duplicates) not in read_source_ledgers(relay.folder):
                await asyncio.sleep(0.01)


BATCH = body_of(*(make_event() for _ in range(9)), b'{"no":"event %s"}' % (b"x" * 100_000))


async def test_no_event_of_a_batch_is_kept_while_parking_of_its_entry_fails(relay: Relay) -> None:
    """Looked at as well: a journal that refuses (below), what another worker keeps (below), ids that cannot be noted
    (`Seen` goes on without them), and what a source remembers (the page stays accepted)."""
    (pages,) = await relay.state.read(lambda db: db.execute("PRAGMA page_count").fetchone())
    await relay.state.read(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").close())
    for _ in range(5):
        status, problem = await relay.post(BATCH)
        assert (status, "full" in problem["detail"]) == (503, True)
    assert relay.journal.head == len(list_parked(relay.folder)) == 0
    await relay.state.read(lambda db: db.execute("PRAGMA max_page_count = 1000000").close())
    assert await relay.post(BATCH) == (202, {"accepted": 9, "parked": 1, "duplicates": 0})
    assert (relay.journal.head, len(list_parked(relay.folder))) == (9, 1)


@pytest.mark.parametrize("told", [True, False])
async def test_an_unreadable_entry_is_parked_once_while_the_journal_refuses(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    relay.journal.set_limits(JournalLimits(max_size=1 << 30, retention=3600, min_free=1 << 60), 1 << 20)
    if not told:
        monkeypatch.setattr(Journal, "refusing", None)
    for _ in range(3):
        assert (await relay.post(BATCH))[0] == 503
        assert list_parked(relay.folder) == []
    relay.journal.set_limits(JournalLimits(max_size=1 << 30, retention=3600), 1 << 20)
    monkeypatch.setattr(Journal, "refusing", None)
    assert await relay.post(BATCH) == (202, {"accepted": 9, "parked": 1, "duplicates": 0})
    assert (relay.journal.head, len(list_parked(relay.folder))) == (9, 1)


async def test_types_outside_the_catalogue_are_logged_once_and_up_to_a_hundred(relay: Relay) -> None:
    def event(number: int, type: str) -> bytes:
        return b'{"id":"%d","event_type":"%s"}' % (number, type.encode())

    with capture_logs() as logs:
        for number, name in enumerate(("users.messages.email.Open", "users.messages.fax.Send", "mine", "mine")):
            assert (await relay.post(body_of(event(number, name))))[0] == 202
        told = [(one["type"], one["group"], one["channel"]) for one in logs if "catalogue" in one["event"]]
        assert told == [("users.messages.fax.Send", "message_engagement", "fax"), ("mine", "", "")]
        await relay.post(body_of(*(event(number, f"made.up.{number}") for number in range(5000))))
    assert sum("catalogue" in one["event"] for one in logs) == 100
    traffic = relay.ingest.intakes["braze"].traffic
    assert len(traffic.unknown_types) == 100
    assert [*traffic.unknown_types][:2] == ["users.messages.fax.Send", "mine"]
    assert await relay.post(b'{"any":"type"}', "bare") == (202, {"accepted": 1, "parked": 0, "duplicates": 0})
    assert not relay.ingest.intakes["bare"].traffic.unknown_types


class OtherWorker:
    """The first worker, as one of the others sees it: it keeps what begins with "first"."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def wants(self, type: str) -> bool:
        return type.startswith("first")

    async def keep(self, source: str, decoded: Decoded) -> int:
        self.kept += map(bytes, decoded.bodies)
        return len(decoded.bodies)


async def test_the_other_worker_keeps_its_part_once_while_the_journal_refuses(tmp_path: Path) -> None:
    relay, other = Relay(tmp_path), OtherWorker()
    await relay.start()
    settings = SourceSettings.model_validate({"type": "braze", "path": "/braze"})
    inbox, first = FolderInbox(relay.journal, relay.state), cast("First", other)
    mine = Intake(Currents("braze", settings), IngestSettings(), BodyMemory(1 << 20), inbox, lambda: None, first)
    decoded = mine.source.decode(
        Request(body_of(b'{"id":"1","event_type":"first"}', b'{"id":"2","event_type":"mine"}'))
    )
    relay.journal.set_limits(JournalLimits(max_size=1 << 30, retention=3600, min_free=1 << 60), 1 << 20)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await mine._append(decoded)
    assert len(other.kept) == 1
    relay.journal.set_limits(JournalLimits(max_size=1 << 30, retention=3600), 1 << 20)
    for kept in (2, 3):
        assert await mine._append(decoded) == 2
        assert len(other.kept) == kept
    await relay.stop()


async def test_duplicates_and_deadlines_of_senders_ignore_jumps_of_the_clock(relay: Relay) -> None:
    """Looked at as well: parked events, segments, erasures, ids, each with a jump (unit/journal/test_clock.py)."""
    body = body_of(EVENT)
    assert (await relay.post(body))[1]["accepted"] == 1
    relay.jump = 400 * 86400.0
    assert (await relay.post(body))[1]["duplicates"] == 1
    assert (await relay.post(b"x"))[0] == 400
    relay.jump, relay.passed = 0.0, 7200.0
    assert (await relay.post(b"x"))[0] == 400
    assert relay.refusals is not None
    assert relay.refusals.last - relay.refusals.since >= 7200
    assert (await relay.post(body))[1]["accepted"] == 1


async def test_a_large_body_is_decoded_beside_the_event_loop(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at as well: compressed ones (process/test_hung_destination.py), floods of events (test_hostile.py)."""
    where = list[threading.Thread]()

    def decode(source: Bare, request: Request) -> Decoded:
        where.append(threading.current_thread())
        return Decoded([source.kind("bare")], [request.body])

    monkeypatch.setattr(Bare, "decode", decode)
    for size in (LARGE, LARGE + 1):
        assert (await relay.post(b'{"a":1}'.ljust(size), "bare"))[0] == 202
    assert [one is threading.current_thread() for one in where] == [True, False]


async def test_a_source_type_that_tells_no_ids_keeps_all_and_says_what_is_wrong(relay: Relay) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            assert await relay.post(b"{}", "bare") == (202, {"accepted": 1, "parked": 0, "duplicates": 0})
    assert {(line["event"], line["log_level"], line["source"]) for line in logs} == {
        ("duplicates cannot be recognized", "error", "bare")
    }


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b'{"events":[]}', 200), (body_of(EVENT), 202)])
async def test_any_2xx_stops_the_clock(relay: Relay, body: bytes, status: int) -> None:
    assert (await relay.post(b"no json"))[0] == 400
    assert relay.refusals is not None
    assert (await relay.post(body))[0] == status
    assert relay.refusals is None


@pytest.mark.parametrize(
    ("method", "body", "headers", "status"),
    [
        ("POST", b"[", {}, 400),
        ("POST", b" " * (9 << 20), {}, 413),
        ("POST", b"x", {"Content-Encoding": "br"}, 415),
        ("GET", None, {}, None),
        ("PUT", b"", {}, None),
    ],
)
async def test_every_refused_post_starts_the_clock_and_no_other_method(
    relay: Relay, method: str, body: bytes | None, headers: dict[str, str], status: int | None
) -> None:
    async def chunks(whole: bytes) -> AsyncIterator[bytes]:
        yield whole

    sent = None if body is None else chunks(body)
    async with aiohttp.request(method, f"{relay.url}/braze", data=sent, headers=headers) as answer:
        assert answer.status == (status or 405)
    assert (relay.refusals and relay.refusals.status) == status


async def test_a_plugin_with_a_bug_starts_the_clock(relay: Relay) -> None:
    assert (await relay.post(b"bug", "bare"))[0] == 500
    refusals = relay.ingest.intakes["bare"].refusal_clock.refusals
    assert refusals is not None
    assert (refusals.status, refusals.deadline) == (500, None)
    assert "decode raised ZeroDivisionError; see relay's log" in refusals.reason


class Failing(Currents):
    """Fails at whatever it is asked beside its requests."""

    watches = True

    def kept(self, bodies: Any) -> None:
        raise ZeroDivisionError(bodies)

    def look_after(self) -> None:
        raise ZeroDivisionError

    def remember(self) -> str:
        raise ZeroDivisionError

    def recall(self, memory: str) -> None:
        raise ValueError(memory)


async def test_a_source_that_fails_when_nobody_waits_for_it_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at: what is kept, looked after, remembered and recalled, at the start as well as by other settings."""
    monkeypatch.setattr(server, "LOOK_AFTER_S", 0)
    relay = Relay(tmp_path)
    relay.made["failing"], relay.names = Failing, ["failing", "braze"]
    await relay.start()
    await relay.state.save_memory("failing", "what it was")
    with capture_logs() as logs:
        await relay.ingest._restore()
        assert (await relay.post(body_of(EVENT), "failing"))[0] == 202
        looking = asyncio.get_running_loop().create_task(relay.ingest.keep_asking_sources(), name="look after")
        async with asyncio.timeout(60):
            while sum(line.get("call") == "look_after" for line in logs) < 2:
                await asyncio.sleep(0)
        changed = Failing("failing", relay.ingest.get_source("failing").settings.model_copy(update={"path": "/other"}))
        relay.ingest.change([changed], IngestSettings())
        looking.cancel()
    calls = {line["call"] for line in logs if line["event"] == "bug in a source"}
    assert calls == {"kept", "look_after", "remember"}
    (line,) = (line for line in logs if line["event"] == "what a source remembers cannot be read")
    assert (line["source"], line["error"]) == ("failing", "what it was")
    await relay.stop()


class Making(Source):
    """Makes of every body something a thousand times as large."""

    def decode(self, request: Request) -> Decoded:
        return Decoded([self.kind("made")] * 100, [b'{"id":"%d"}' % number + b" " * 100_000 for number in range(100)])


async def test_what_a_source_makes_of_a_body_is_within_max_in_flight(tmp_path: Path) -> None:
    """Though it does not say that it makes anything."""
    relay = Relay(tmp_path)
    relay.made["making"], relay.names = Making, ["making"]
    await relay.start()
    relay.ingest.body_memory.limit = 9 << 20
    status, problem = await relay.post(b"{}", "making")
    assert (status, "ingest.max_in_flight" in problem["detail"]) == (413, True)
    relay.ingest.body_memory.limit = 11 << 20
    assert (await relay.post(b"{}", "making"))[0] == 202
    assert relay.ingest.body_memory.used == 0
    await relay.stop()


class Hanging(Currents):
    """Never comes back from a body that says so, until the test ends."""

    goes_on = threading.Event()

    def decode(self, request: Request) -> Decoded:
        if b"hang" in request.body:
            self.goes_on.wait(60)
        return super().decode(request)


async def test_a_source_that_hangs_in_a_large_body_blocks_only_its_large_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "DECODE_S", 0.2)
    large = body_of(EVENT) + b" " * LARGE
    relay = Relay(tmp_path)
    relay.made["hanging"], relay.names = Hanging, ["hanging", "braze"]
    await relay.start()
    try:
        assert (await relay.post(large.replace(b"  ", b" hang"), "hanging"))[0] == 500
        monkeypatch.setattr(intake, "DECODE_S", 30.0)
        assert (await relay.post(large, "hanging"))[0] == 500
        assert (await relay.post(body_of(EVENT), "hanging"))[0] == 202
        assert (await relay.post(large))[0] == 202
        assert relay.ingest.body_memory.used == 0
        Hanging.goes_on.set()
        async with asyncio.timeout(60):
            while (await relay.post(large, "hanging"))[0] != 202:
                await asyncio.sleep(0.01)
    finally:
        Hanging.goes_on.set()
        await relay.stop()


async def test_requests_to_paths_that_no_source_has_are_told_and_counted(relay: Relay) -> None:
    with capture_logs() as logs:
        assert (await relay.post(body_of(EVENT), "braise"))[0] == 404
        assert (await relay.post(b"nothing"))[0] == 400
        async with aiohttp.request("GET", f"{relay.url}/favicon.ico") as answer:
            assert answer.status == 404
    assert relay.ingest.unrouted == 2
    told = [(line["event"], line.get("source"), line["client"], line["status"]) for line in logs]
    refused = "request refused"
    assert told == [(refused, None, "127.0.0.1", 404), (refused, "braze", "127.0.0.1", 400)]
    assert logs[0]["reason"] == "no source has the path /braise"


async def test_a_sender_that_breaks_off_is_told_of_without_a_traceback(relay: Relay) -> None:
    host, port = relay.url.removeprefix("http://").split(":")
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'POST /braze HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"events":')
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        async with asyncio.timeout(30):
            while not logs:
                await asyncio.sleep(0.01)
    assert [(line["event"], line["status"]) for line in logs] == [("request refused", 408)]


async def test_a_database_that_cannot_be_written_fails_no_request(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_saver, "SAVE_S", 0)
    assert (await relay.post(body_of(EVENT)))[0] == 202
    with closing(sqlite3.connect(relay.folder / "relay.db")) as db, db:
        db.execute("ALTER TABLE source RENAME TO elsewhere")
    with capture_logs() as logs:
        assert (await relay.post(body_of(EVENT)))[1]["duplicates"] == 1
        async with asyncio.timeout(30):
            while not logs:
                await asyncio.sleep(0.01)
    assert (logs[0]["event"], logs[0]["log_level"]) == ("saving what sources count failed", "error")
    with closing(sqlite3.connect(relay.folder / "relay.db")) as db, db:
        db.execute("ALTER TABLE elsewhere RENAME TO source")
    await relay.post(body_of(EVENT))
    await relay.stop()
    assert SourceLedger("braze", 2) in read_source_ledgers(relay.folder)
    await relay.start()


async def test_a_removed_source_shows_its_duplicates_but_not_its_refusals(relay: Relay) -> None:
    await relay.stop()
    with closing(sqlite3.connect(relay.folder / "relay.db")) as db, db:
        db.execute("REPLACE INTO source VALUES ('braze', 7, 1e9, 1000090000, 503, 'the journal is full', 1000432000)")
    relay.names = ["bare"]
    await relay.start()
    await relay.stop()
    assert read_source_ledgers(relay.folder)[1] == SourceLedger("braze", 7)
    await relay.start()


async def test_the_ids_of_a_source_that_no_longer_dedupes_leave_the_disk(relay: Relay) -> None:
    await relay.post(body_of(EVENT))
    assert [*(relay.folder / "seen").glob("braze.*")]
    await relay.stop()
    relay.names = ["bare"]
    await relay.start()
    assert not [*(relay.folder / "seen").glob("braze.*")]
