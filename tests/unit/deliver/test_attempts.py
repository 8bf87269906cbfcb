"""What a lane counts of its attempts, and what it says of its destination."""

from pathlib import Path

import pytest

from relay.api import DELIVERED, Batch, Reject, Retry, Unauthorized
from relay.deliver.attempts import OUTCOMES, classify_result
from relay.deliver.health import FEW, MANY, WHILE_S
from relay.deliver.result import judge
from relay.histogram import Histogram
from tests.unit.deliver.test_lane import bench


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, "delivered"),
        ([DELIVERED, Retry("busy")], "retried"),
        ([DELIVERED, Reject("no")], "refused"),
        (Reject("no"), "refused"),
        (Unauthorized("401"), "unauthorized"),
        (TimeoutError(), "retried"),
        (ValueError("x"), "bug"),
        ("nonsense", "bug"),
    ],
)
def test_an_attempt_counts_as_the_worst_that_came_of_it(answer: object, outcome: str) -> None:
    assert classify_result(judge(2, answer)) == outcome  # type: ignore[arg-type]
    assert outcome in OUTCOMES


def test_a_histogram_counts_values_up_to_and_with_each_bound() -> None:
    spread = Histogram((1.0, 2.0))
    for value, weight in ((0.5, 1), (1.0, 2), (1.5, 3), (9.0, 4)):
        spread.observe(value, weight)
    assert (spread.counts, spread.sum) == ([3, 3, 4], 43.0)


async def test_attempts_are_counted_once_and_events_by_their_number(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        lane = it.fleet.lanes[0]
        answers = [Unauthorized("401", status=401), Retry("503 busy", status=503)]

        def answer(batch: Batch) -> None:
            if answers:
                raise answers.pop(0)

        it.connector.answer = answer
        await it.send(10)
        await it.settled()
        meter = lane.destination.metrics
        assert meter.attempts == dict.fromkeys(OUTCOMES, 0) | {"unauthorized": 1, "retried": 1, "delivered": 1}
        assert sum(meter.attempt.counts) == 3
        assert sum(meter.end_to_end.counts) == 10
        trouble = lane.destination.health.trouble
        assert trouble is not None
        assert (trouble.reason, trouble.status, trouble.unauthorized) == ("503 busy", 503, None)
        assert trouble.over is not None
        assert trouble.since <= trouble.last <= trouble.over


async def test_what_is_parked_is_counted(tmp_path: Path) -> None:
    def refuse(batch: Batch) -> None:
        raise Reject("no")

    async with bench(tmp_path) as it:
        it.connector.answer = refuse
        await it.send(3)
        await it.settled()
        assert it.fleet.lanes[0].destination.metrics.parked == 3
        assert sum(it.fleet.lanes[0].destination.metrics.end_to_end.counts) == 0


async def test_a_refusing_destination_shows_until_it_takes_an_event(tmp_path: Path) -> None:
    """A whole batch that is refused, and so are its parts; a few bad events in a row are not everything."""

    def refuse(batch: Batch) -> None:
        raise Reject("no such field", status=422)

    async with bench(tmp_path) as it:
        health = it.fleet.lanes[0].destination.health
        it.connector.answer = refuse
        await it.send(FEW)
        await it.settled()
        assert health.refusals is not None
        assert (health.refusals.attempts, health.refusals.status, health.refusals.reason) == (FEW, 422, "no such field")
        since = health.refusals.since
        assert not health.refusals.is_all(since + WHILE_S - 1)
        assert health.refusals.is_all(since + WHILE_S)
        await it.send(MANY - FEW)
        await it.settled()
        assert health.refusals.is_all(since)
        assert health.refusals.since == since
        it.connector.answer = lambda batch: None
        await it.send(1)
        await it.settled()
        assert not health.refusals.is_all(since + WHILE_S)
        assert health.refusals.reason == "no such field"
        it.connector.answer = refuse
        await it.send(1)
        await it.settled()
        assert health.refusals.attempts == 1
        assert health.refusals.since > since
