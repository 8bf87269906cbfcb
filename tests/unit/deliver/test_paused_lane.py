"""A lane that an admin has paused holds its events, over a restart too, and goes on where it was."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from relay.api import Batch, Retry, Unauthorized
from relay.state.pauses import FolderPauses
from relay.state.replays import FolderReplays
from relay.store import Cursor, Replay
from tests.unit.deliver.test_lane import Bench, bench


async def until(good: Any) -> None:
    async with asyncio.timeout(30):
        while not good():
            await asyncio.sleep(0.005)


async def test_a_paused_lane_sends_nothing_until_it_is_resumed(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, window=5) as it:
        (lane,) = it.fleet.lanes
        assert FolderPauses(tmp_path).pause("it")
        assert FolderPauses(tmp_path).pause("other")
        assert not FolderPauses(tmp_path).pause("it")
        await until(lambda: lane.destination.breaker.held)
        bodies = await it.send(100)
        await asyncio.sleep(0.05)  # time enough to send them all, if it did
        assert (it.connector.batches, lane.cursor.position) == ([], 0)
    async with bench(tmp_path) as it:
        await asyncio.sleep(0.05)
        assert it.connector.batches == []
        assert list(FolderPauses(tmp_path).read()) == ["it", "other"]
        assert FolderPauses(tmp_path).resume("it")
        assert not FolderPauses(tmp_path).resume("it")
        await it.settled()
        assert sorted(it.connector.delivered) == sorted(bodies)
        assert it.connector.delivered.total() == 100


async def test_a_pause_with_an_end_ends_by_itself_over_a_restart_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        assert FolderPauses(tmp_path).pause("it")
        assert FolderPauses(tmp_path).pause("it", time.time() + 3600)
        soon = time.time() + 1.5
        assert FolderPauses(tmp_path).pause("it", soon)
        assert not FolderPauses(tmp_path).pause("it", soon)
        await until(lambda: it.fleet.lanes[0].destination.breaker.held)
        await it.send(3)
    async with bench(tmp_path) as it:
        held = it.fleet.lanes[0].destination.breaker.held
        assert held is not None
        assert (held.until, it.connector.batches) == (soon, [])
        await it.settled()
        assert it.connector.delivered.total() == 3
        assert time.time() > soon
        assert it.fleet.lanes[0].destination.breaker.held is None
        assert FolderPauses(tmp_path).read() == {}
        assert not FolderPauses(tmp_path).resume("it")


async def test_a_lane_that_was_paused_is_so_before_it_runs(tmp_path: Path) -> None:
    async with bench(tmp_path):
        FolderPauses(tmp_path).pause("it")
    it = Bench(tmp_path, {})
    await it.fleet.open(it.config)
    assert it.fleet.lanes[0].destination.breaker.held
    it.fleet.stop()
    await it.fleet.run()
    await it.journal.close()
    it.state.close()


@pytest.mark.parametrize("failure", [Retry("busy", after=3000), Unauthorized("no such key"), Retry("away")])
async def test_a_waiting_lane_retries_at_once_when_an_admin_says_so(tmp_path: Path, failure: Exception) -> None:
    """A destination that asked for peace, one that does not accept relay, one that is away; a replay beside each."""

    def fail(batch: Batch) -> None:
        raise failure

    async with bench(tmp_path, retry={"first": "50m", "max": "50m"}) as it:
        (lane,) = it.fleet.lanes
        assert not it.fleet.try_now("it")
        await it.send(3)
        await it.settled()
        it.connector.answer = fail
        FolderReplays(tmp_path).ask(Replay("it", Cursor(0, 0), 3))
        await it.until(lambda: len(it.fleet.replays) == 1)
        await it.send(10)
        least = 3 if failure.args == ("away",) else 2  # another attempt waits for the first one's hour to be over
        await it.until(
            lambda: len(it.connector.batches) >= least and not it.connector.at_once and lane.destination.health.is_bad
        )
        it.connector.answer = lambda batch: None
        assert it.fleet.try_now("it")
        await it.settled()
        await it.until(lambda: not it.fleet.replays)
        assert it.connector.delivered.total() == 16
        assert not it.fleet.try_now("it")


async def test_what_is_tried_at_once_and_fails_again_waits_again(tmp_path: Path) -> None:
    def fail(batch: Batch) -> None:
        raise Retry("busy", after=3000)

    async with bench(tmp_path, concurrency=1) as it:
        it.connector.answer = fail
        await it.send(3)
        breaker = it.fleet.lanes[0].destination.breaker
        for attempt in (1, 2):
            await it.until(
                lambda tried=attempt: len(it.connector.batches) == tried and breaker.seconds_left(time.monotonic()) > 60
            )
            assert it.fleet.try_now("it")


async def test_a_stop_ends_a_paused_lane_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        FolderPauses(tmp_path).pause("it")
        await until(lambda: it.fleet.lanes[0].destination.breaker.held)
        await it.send(3)
    assert it.fleet.lanes[0].cursor.position == 0
