"""A lane that an admin has paused holds its events, over a restart too, and goes on where it was."""

import asyncio
from pathlib import Path
from typing import Any

from relay.journal import pause, pauses, resume
from tests.deliver.test_lane import Bench, bench


async def until(good: Any) -> None:
    async with asyncio.timeout(10):
        while not good():
            await asyncio.sleep(0.005)


async def test_a_paused_lane_sends_nothing_until_it_is_resumed_and_others_may_be_paused_beside_it(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, window=5) as it:
        (lane,) = it.fleet.lanes
        assert pause(tmp_path, "it")
        assert pause(tmp_path, "other")
        assert not pause(tmp_path, "it")
        await until(lambda: lane.delivery.breaker.held)
        bodies = await it.send(100)
        await asyncio.sleep(0.05)  # time enough to send them all, if it did
        assert (it.connector.batches, lane.cursor.position) == ([], 0)
    async with bench(tmp_path) as it:
        await asyncio.sleep(0.05)
        assert it.connector.batches == []
        assert list(pauses(tmp_path)) == ["it", "other"]
        assert resume(tmp_path, "it")
        assert not resume(tmp_path, "it")
        await it.settled()
        assert sorted(it.connector.delivered) == sorted(bodies)
        assert it.connector.delivered.total() == 100


async def test_a_lane_that_was_paused_is_so_before_it_runs(tmp_path: Path) -> None:
    async with bench(tmp_path):
        pause(tmp_path, "it")
    it = Bench(tmp_path, {})
    await it.fleet.open(it.config)
    assert it.fleet.lanes[0].delivery.breaker.held
    it.fleet.stop()
    await it.fleet.run()
    await it.journal.close()
    it.state.close()


async def test_a_stop_ends_a_paused_lane_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        pause(tmp_path, "it")
        await until(lambda: it.fleet.lanes[0].delivery.breaker.held)
        await it.send(3)
    assert it.fleet.lanes[0].cursor.position == 0
