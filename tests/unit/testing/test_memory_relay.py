"""The relay in memory selects, filters, delivers and judges as the daemon does, and its books balance."""

import asyncio
from typing import Any

import orjson
import pytest

from relay.api import Batch, Connector, ConnectorSettings, Reject, Retry, Skipped, Unauthorized
from relay.config import ConfigError
from relay.testing import Answer, Destination, MemoryRelay, make_event

CONF = """
[source.braze]
type = "currents"
path = "/currents"
tokens = [{ env = "BRAZE_TOKEN" }]
dedupe = "1h"

[filter.no_tests]
type = "drop"
field = "properties.campaign_name"
equals = "Test"

[connector.archive]
type = "http"
url = "URL"
events = ["users.messages.*"]
filters = ["no_tests"]

[connector.chat]
type = "chat"
"""


class Chat(Connector, type="chat"):
    class Settings(ConnectorSettings):
        pass

    outcomes: Any = None

    async def deliver(self, batch: Batch):
        if isinstance(self.outcomes, Exception):
            raise self.outcomes
        return self.outcomes


@pytest.fixture
async def archive():
    async with Destination() as destination:
        yield destination


@pytest.fixture
async def relay(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAZE_TOKEN", "braze-secret")
    async with MemoryRelay(CONF.replace("URL", archive.url), Chat, folder=tmp_path) as relay:
        yield relay


async def test_events_are_selected_filtered_and_delivered(relay, archive):
    opened, test = make_event(campaign_name="Spring"), make_event(campaign_name="Test")
    relay.accept(opened, test, make_event("users.canvas.Entry"))
    await relay.deliver()
    books = relay.books["archive"]
    assert [event.body for event in books.delivered] == [opened] == archive.bodies()
    assert [event.body for event in books.filtered] == [test]
    assert [event.type for event in books.unselected] == ["users.canvas.Entry"]
    assert len(relay.books["chat"].delivered) == 3


async def test_requests_are_authorized_and_told_apart(relay, archive):
    event = orjson.loads(make_event())
    body, good = orjson.dumps({"events": [event, {"id": "1"}]}), {"Authorization": "Bearer braze-secret"}
    assert relay.post("/currents", body) == 401
    assert relay.post("/elsewhere", body, good) == 404
    assert relay.post("/currents", b"{", good) == 400
    assert relay.post("/currents", body, good) // 100 == 2
    assert relay.post("/currents", body, good) // 100 == 2
    await relay.deliver()
    assert archive.events() == [event], "the second request was a duplicate"
    assert relay.unreadable[0].body == b'{"id":"1"}'


async def test_what_waits_is_tried_again_at_the_next_attempt(relay, archive):
    relay.accept(make_event())
    archive.behaviour = 503
    await relay.deliver()
    books = relay.books["archive"]
    assert (len(books.waiting), books.delivered) == (1, [])
    assert "HTTP 503" in books.reason
    archive.behaviour = 401
    await relay.deliver()
    assert books.unauthorized
    archive.behaviour = 200
    await relay.deliver()
    assert (books.waiting, books.reason, books.unauthorized, len(books.delivered)) == ([], "", False, 1)


async def test_a_refused_batch_is_divided_until_the_refused_event_is_alone(relay, archive):
    bad = make_event(subject="bad")
    archive.choose = lambda request: 400 if b'"bad"' in request.body else None
    relay.accept(make_event(), make_event(), bad, make_event())
    await relay.deliver()
    books = relay.books["archive"]
    assert [(event.body, reason) for event, reason in books.parked] == [(bad, "HTTP 400: {}")]
    assert len(books.delivered) == 3


async def test_outcomes_by_event_are_entered_by_event(relay):
    chat, books = relay.connector("chat"), relay.books["chat"]
    chat.outcomes = [Reject("no"), Skipped("not for us"), Retry("later"), Unauthorized("who")]
    relay.accept(*(make_event() for _ in range(4)))
    await relay.deliver()
    assert [reason for _, reason in books.parked] == ["no"]
    assert (len(books.filtered), len(books.waiting), books.unauthorized) == (1, 2, True)
    chat.outcomes = RuntimeError("oops")
    await relay.deliver()
    assert books.reason == "bug in the connector: RuntimeError: oops"


async def test_a_delivery_ends_after_the_timeout(archive, tmp_path):
    conf = f'[connector.archive]\ntype = "http"\nurl = "{archive.url}"\ntimeout = "50ms"\n'
    async with MemoryRelay(conf, folder=tmp_path) as relay:
        archive.behaviour = Answer(hang=True, status=503)
        relay.accept(make_event())
        async with asyncio.timeout(20):
            await relay.deliver()
        assert len(relay.books["archive"].waiting) == 1


def test_a_wrong_configuration_is_told_with_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r"test\.toml:2: connector\.chat\.type: .*chat"):
        MemoryRelay('[connector.chat]\ntype = "chat"\n', folder=tmp_path)
