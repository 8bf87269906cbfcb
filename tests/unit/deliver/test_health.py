"""When a destination counts as one that refuses everything."""

import time
from pathlib import Path

import pytest

from relay.api import Batch, Reject
from relay.deliver import health
from tests.unit.deliver.test_lane import KIND, bench


def test_few_refusals_are_all_once_they_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    it = health.Health("it")
    for _ in range(3):
        it.record_refusal("HTTP 400: no", 400)
    assert it.refusals is not None
    assert not it.refusals.is_all(now)
    now += 61
    it.record_refusal("HTTP 422: no", 422)
    assert it.refusals.is_all(now)
    assert (it.refusals.attempts, it.refusals.since, it.refusals.last, it.refusals.status) == (4, 1000, 1061, 422)


async def test_a_refused_batch_that_is_split_is_no_refusal_yet(tmp_path: Path) -> None:
    def refuse(batch: Batch) -> None:
        raise Reject("HTTP 400: no")

    async with bench(tmp_path, concurrency=1) as it:
        it.connector.answer = refuse
        await it.send(4)
        await it.settled()
        assert len(it.connector.batches) > 4
        seen = it.fleet.lanes[0].destination.health
        assert seen.refusals is not None
        assert seen.refusals.attempts == 4
        assert seen.event is not None
        assert seen.event[0] == KIND.type
