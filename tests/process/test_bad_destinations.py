"""Destinations that misbehave in every way: what they took arrives once, what they did not take comes again."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest

from relay.testing import Answer, Destination, Reset, make_event
from tests.daemon import Daemon

TABLES = """
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "%s"
timeout = "400ms"
concurrency = 1
retry = { first = "5ms", max = "20ms" }
"""


def in_a_second() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)


@pytest.mark.parametrize(
    ("behaviours", "arrives"),
    [
        pytest.param([Answer(status=429, headers={"Retry-After": "1"})], 1, id="429 with seconds"),
        pytest.param([Answer(status=429, headers={"Retry-After": in_a_second()})], 1, id="429 with a date"),
        pytest.param([500, 503, 502], 1, id="5xx"),
        pytest.param([Reset(), Reset(after_body=True)], 1, id="reset"),
        pytest.param([Answer(body=b"x" * 100, cut=True)], 1, id="200 whose body breaks off: taken"),
        pytest.param([Answer(body=b"x" * 100, drip=0.01)], 1, id="200 that drips: taken"),
        pytest.param([Answer(hang=True)], 2, id="200 after the timeout: taken, and sent again"),
        pytest.param([418, 301, 404], 1, id="refused and paused"),
    ],
)
async def test_misbehaviour(daemon: Daemon, behaviours: list[Any], arrives: int) -> None:
    async with Destination(*behaviours) as hook:
        daemon.configure("10-all", (TABLES + 'answers = { 418 = "retry" }') % hook.url)
        await daemon.start()
        events = [make_event(n=n) for n in range(20)]
        assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
        books = await daemon.settled("hook", 20)
        assert await daemon.stop() == 0
        assert Counter(hook.bodies()) == Counter(dict.fromkeys(events, arrives))
        assert (books.counts.delivered, books.counts.parked) == (20, 0)
        assert len({request.headers["Idempotency-Key"] for request in hook.requests}) == 1
        assert orjson.loads(hook.requests[-1].body)["events"][0]["properties"] == {"n": 0}
