"""What the lane of a connector and a replay beside the lane share of their destination, and what each has alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.api import Batch, Block, Connector, Event, Kind, Retry
from relay.deliver.admission import Stopped
from relay.deliver.batch.parts import Settled
from relay.deliver.delivery import Delivery
from relay.deliver.destination import SharedDestination
from relay.deliver.window import Window
from relay.state.database import StateDatabase

KIND = Kind("braze", "users.messages.email.Open")
NEVER = 0.001
"""Events per second: the second event would wait for a quarter of an hour."""


class Counted(Connector, type="counted"):
    """Counts its attempts, all and those at a time; may fail."""

    failure: Exception | None = None
    attempts = at_once = most_at_once = 0

    async def deliver(self, batch: Batch) -> None:
        self.attempts += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            if self.failure is not None:
                raise self.failure
        finally:
            self.at_once -= 1


class Ways:
    """A lane and a replay to one destination."""

    def __init__(self, folder: Path, replay_rate: float, settings: dict[str, Any]) -> None:
        self.connector = Counted("it", Counted.Settings.model_validate({"type": "counted"} | settings), folder=folder)
        self.destination = SharedDestination(self.connector, self.connector.settings, keeps_order=False)
        self.state = StateDatabase(folder)
        self.lane = Delivery(self.destination, window(), self.state)
        self.replay = Delivery(self.destination, window(), self.state, replay=1, rate=replay_rate)
        self.settled: list[Settled] = []

    async def send(self, delivery: Delivery) -> None:
        """Deliver one event, through all that a delivery waits for."""
        async with asyncio.TaskGroup() as group:
            await delivery.admission.start(group, lambda: self._finish(delivery), "deliver", 1)

    async def _finish(self, delivery: Delivery) -> None:
        await delivery.finish(Batch([Block.of([Event(b"{}", KIND, 0, 0.0)])]), self.settled.append)


def window() -> Window:
    return Window(1000, 1 << 20, lambda: None)


@asynccontextmanager
async def ways(folder: Path, replay_rate: float = 0.0, **settings: Any) -> AsyncIterator[Ways]:
    it = Ways(folder, replay_rate, settings)
    yield it
    it.state.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def waits(it: Ways, delivery: Delivery) -> None:
    """An event of a delivery makes no attempt, until the delivery is stopped."""
    before = it.connector.attempts
    sent = asyncio.gather(it.send(delivery), return_exceptions=True)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not sent.done()
    delivery.admission.stop()
    (error,) = await sent
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(Stopped)
    assert it.connector.attempts == before


@pytest.mark.parametrize("first", ["lane", "replay"])
async def test_a_lane_and_a_replay_share_breaker_and_health(tmp_path: Path, first: str) -> None:
    async with ways(tmp_path) as it, asyncio.TaskGroup() as group:
        one, other = (it.lane, it.replay) if first == "lane" else (it.replay, it.lane)
        it.connector.failure = Retry("busy", after=3000)
        failing = group.create_task(it.send(one), name="failing")
        await until(lambda: it.destination.health.is_bad)
        await waits(it, other)
        it.connector.failure = None
        one.admission.try_now()
        await failing
        assert not it.destination.health.is_bad


async def test_a_lane_and_a_replay_share_the_concurrency_limit(tmp_path: Path) -> None:
    async with ways(tmp_path, concurrency=2) as it:
        await asyncio.gather(*(it.send(one) for _ in range(10) for one in (it.lane, it.replay)))
        assert it.connector.attempts == 20
        assert it.connector.most_at_once == 2


async def test_a_lane_and_a_replay_share_the_rate_limit(tmp_path: Path) -> None:
    async with ways(tmp_path, rate=NEVER) as it:
        await it.send(it.replay)
        await waits(it, it.lane)


async def test_a_replay_that_waits_for_its_own_rate_takes_no_place_from_the_lane(tmp_path: Path) -> None:
    async with ways(tmp_path, replay_rate=NEVER, concurrency=1) as it, asyncio.TaskGroup() as group:
        await it.send(it.replay)
        waiting = group.create_task(it.send(it.replay), name="waiting")
        for _ in range(20):
            await it.send(it.lane)
        assert it.connector.attempts == 21
        assert not waiting.done()
        waiting.cancel()


async def test_a_stopped_replay_does_not_stop_the_lane(tmp_path: Path) -> None:
    async with ways(tmp_path) as it:
        it.replay.admission.stop()
        await it.send(it.lane)
        assert [one.outcome for one in it.settled] == ["delivered"]
