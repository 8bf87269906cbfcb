"""Parked events that are replayed: by the filters or as they are, in the lane's batches, the books in step."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.api import Batch, Connector, ConnectorSettings, Event, Filter, Kind, Reject, Retry, Secret
from relay.config.model import Config, Configured
from relay.state.attempts import find_attempts_at
from relay.state.database import StateDatabase
from relay.state.ledger import read_ledger
from relay.store import Counts, Parked, ParkedQuery, Unavailable
from relay.testing import make_event
from tests.parked import drop_parked, list_parked, mark_parked
from tests.unit.deliver.one_lane import OneLane

KIND = Kind("braze", "users.messages.email.Open", "uuid", "at")


class Picky(Connector, type="picky"):
    """Refuses a batch with an event in it that it does not like."""

    class Settings(ConnectorSettings):
        token: Secret | None = None

    likes: Callable[[Event], bool]
    refuse: Callable[[], Exception]

    def __init__(self, name: str, settings: ConnectorSettings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self.likes = lambda event: True
        self.refuse = lambda: Reject("HTTP 400: not liked")
        self.taken: list[list[Event]] = []
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, batch: Batch) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.gate.wait()
        self.at_once -= 1
        if not all(map(self.likes, batch)):
            raise self.refuse()
        self.taken.append(list(batch))


class Moody(Filter, type="moody"):
    """Fails on, drops or marks events as the test says."""

    mood = "fail"

    def apply(self, event: Event) -> Event | None:
        if self.mood == "fail":
            raise LookupError("no mood")
        return None if self.mood == "drop" else event.with_data({"marked": True})


class Bench(OneLane[Picky]):
    def __init__(self, folder: Path, **settings: Any) -> None:
        quick = {"retry": {"first": "1ms", "max": "2ms"}, "batch": {"events": 10, "age": "0ms"}}
        made = Picky.Settings.model_validate({"type": "picky"} | quick | settings)
        config = Config(
            connectors={"it": Configured("it", Picky, made)},  # type: ignore[dict-item,arg-type]
            filters={"moody": Configured("moody", Moody, Moody.Settings.model_validate({"type": "moody"}))},  # type: ignore[dict-item,arg-type]
        )
        super().__init__(folder, config, Picky)

    async def send(self, count: int) -> None:
        await self.journal.append([KIND] * count, [make_event(n=n) for n in range(count)])

    async def until_parked(self, good: Callable[[list[Parked]], bool]) -> list[Parked]:
        async with asyncio.timeout(30):
            while not good(found := list_parked(self.folder)):
                await asyncio.sleep(0.005)
        return found


async def test_refused_events_are_sent_as_they_are_in_batches_beside_new_ones(tmp_path: Path) -> None:
    bench = Bench(tmp_path, concurrency=1)
    async with bench.running() as it:
        it.likes = lambda event: False
        await bench.send(25)
        await bench.until(parked=25)
        before = list_parked(tmp_path)
        it.likes = lambda event: True
        it.gate.clear()
        assert mark_parked(tmp_path, ParkedQuery()) == 25
        async with asyncio.timeout(30):
            while not it.at_once:
                await asyncio.sleep(0.005)
        await bench.send(30)
        await asyncio.sleep(0.05)  # time to do wrong: the one slot is taken
        it.gate.set()
        await bench.until(delivered=55)
        assert max(map(len, it.taken)) <= 10
        assert it.most_at_once == 1
        again = [event for batch in it.taken for event in batch if event.offset < 25]
        assert [(event.offset, event.body) for event in again] == [(one.offset, one.body) for one in before]
        assert again[0].received == before[0].received > 0
        assert (again[0].kind.id_field, again[0].kind.time_field) == ("uuid", "at")
    assert list_parked(tmp_path) == []


async def test_what_is_refused_again_stays_and_is_not_tried_until_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as it:
        it.likes = lambda event: False
        await bench.send(4)
        await bench.until(parked=4)
        it.likes = lambda event: event.offset != 2
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(parked=1, delivered=3)
        (one,) = list_parked(tmp_path)
        assert (one.offset, one.attempts, one.again) == (2, 2, None)
        it.likes = lambda event: True
        await bench.send(1)
        await bench.until(parked=1, delivered=4)
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=5)
    assert [event.offset for batch in it.taken for event in batch].count(2) == 1
    noted = {offset: [(one.outcome, one.attempts) for one in find_attempts_at(tmp_path, offset)] for offset in range(5)}
    assert noted[2][0] == ("delivered", 3)
    assert noted[0][0] == noted[3][0] == ("delivered", 2)
    assert noted[4] == []


async def test_what_a_filter_failed_on_goes_through_the_filters_again(tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(tmp_path, filters=["moody"])
    async with bench.running() as it:
        await bench.send(3)
        await bench.until(parked=3)
        mark_parked(tmp_path, ParkedQuery(numbers=[1]))
        (first, *_) = await bench.until_parked(lambda found: found[0].attempts == 1)
        assert (first.cause, first.again) == ("filter", None)
        monkeypatch.setattr(Moody, "mood", "drop")
        mark_parked(tmp_path, ParkedQuery(numbers=[2]))
        await bench.until(parked=2, filtered=1)
        monkeypatch.setattr(Moody, "mood", "mark")
        it.likes = lambda event: False
        mark_parked(tmp_path, ParkedQuery(numbers=[3]))
        (_, third) = await bench.until_parked(lambda found: found[-1].cause == "refused")
        assert third.body == b'{"marked":true}'
        it.likes = lambda event: True
        monkeypatch.setattr(Moody, "mood", "fail")
        mark_parked(tmp_path, ParkedQuery(numbers=[3]))
        await bench.until(parked=1, filtered=1, delivered=1)
        assert [event.body for batch in it.taken for event in batch] == [b'{"marked":true}']


async def test_a_stopped_relay_replays_after_its_next_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as it:
        it.likes = lambda event: False
        await bench.send(2)
        await bench.until(parked=2)
    mark_parked(tmp_path, ParkedQuery())
    async with bench.running() as it:
        await bench.until(delivered=2)
        assert [event.offset for batch in it.taken for event in batch] == [0, 1]


async def test_a_replayed_event_stays_parked_until_the_checkpoint(tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as it:
        it.likes = lambda event: False
        await bench.send(1)
        await bench.until(parked=1)
        it.likes = lambda event: True
        save, broken = bench.state.save, asyncio.Event()

        async def fail(*arguments: Any) -> None:
            if it.taken:
                broken.set()
                raise Unavailable("no space")
            await save(*arguments)

        monkeypatch.setattr(bench.state, "save", fail)
        mark_parked(tmp_path, ParkedQuery())
        async with asyncio.timeout(30):
            await broken.wait()
        (one,) = list_parked(tmp_path)
        assert one.again
        assert read_ledger(tmp_path)["it"].counts == Counts(parked=1)
        monkeypatch.setattr(bench.state, "save", save)
        await bench.until(delivered=1)
        assert list_parked(tmp_path) == []
        assert len(it.taken) == 1


async def test_an_event_replayed_during_a_checkpoint_is_sent_once(tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as it:
        it.likes = lambda event: False
        await bench.send(1)
        await bench.until(parked=1)
        it.likes = lambda event: True
        save = bench.state.save

        async def slow(*arguments: Any) -> None:
            while not any(event.offset == 0 for batch in it.taken for event in batch):
                await asyncio.sleep(0.001)
            await save(*arguments)

        monkeypatch.setattr(bench.state, "save", slow)
        await bench.send(1)
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=2)
    assert list_parked(tmp_path) == []
    assert sorted(event.offset for batch in it.taken for event in batch) == [0, 1]


async def test_dropped_events_still_count_as_parked_in_the_ledger(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as it:
        it.likes = lambda event: False
        await bench.send(2)
        await bench.until(parked=2)
        assert drop_parked(tmp_path, ParkedQuery(numbers=[1])) == 1
        it.likes = lambda event: True
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(parked=1, delivered=1)
    assert list_parked(tmp_path) == []


@pytest.mark.parametrize(
    ("refuse", "cause", "reason", "status", "answer"),
    [
        (
            lambda: Reject("HTTP 422: no hunter2", status=422, answer="no hunter2"),
            "refused",
            "HTTP 422: no ...",
            422,
            "no ...",
        ),
        (
            lambda: Retry("HTTP 503: hunter2 is busy", status=503, answer="hunter2 is busy"),
            "gave_up",
            "HTTP 503: ... is busy",
            503,
            "... is busy",
        ),
        (lambda: Retry("db: connection refused"), "gave_up", "db: connection refused", None, ""),
        (lambda: KeyError("hunter2"), "bug", "bug in the connector: KeyError: '...'", None, ""),
    ],
)
async def test_the_last_answer_is_kept_and_logged_without_its_secrets(
    tmp_path: Path,
    monkeypatch: Any,
    refuse: Callable[[], Exception],
    cause: str,
    reason: str,
    status: int | None,
    answer: str,
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    bench = Bench(tmp_path, token=Secret("env", "TOKEN"), retry={"first": "1ms", "max": "2ms", "give_up_after": "20ms"})
    with capture_logs() as lines:
        async with bench.running() as it:
            it.likes, it.refuse = (lambda event: False), refuse
            await bench.send(1)
            await bench.until(parked=1)
    (one,) = list_parked(tmp_path)
    assert (one.cause, one.reason, one.status, one.answer) == (cause, reason, status, answer)
    assert any(line.get("reason") == reason for line in lines)
    assert "hunter2" not in str(lines)


async def test_a_lane_continues_after_its_probe_has_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, concurrency=1, retry={"first": "1ms", "max": "2ms", "give_up_after": "50ms"})
    async with bench.running() as it:
        it.likes, it.refuse = (lambda event: False), lambda: Retry("busy")
        await bench.send(1)
        await bench.until(parked=1)
        it.likes = lambda event: True
        await bench.send(1)
        await bench.until(parked=1, delivered=1)


async def test_a_database_that_is_away_is_no_failure_of_the_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.deliver.lane.AWAY_S", 0.001)
    real, failures = StateDatabase.read_marked, list[Unavailable]()

    async def fail_once(self: StateDatabase, *given: Any) -> Any:
        if failures:
            return await real(self, *given)
        failures.append(Unavailable("the server stops"))
        failures[0].is_logged = True
        raise failures[0]

    monkeypatch.setattr(StateDatabase, "read_marked", fail_once)
    bench = Bench(tmp_path)
    with capture_logs() as logs:
        async with bench.running():
            await bench.send(1)
            await bench.until(delivered=1)
    assert failures
    assert "lane failed, starts again" not in [line["event"] for line in logs]
