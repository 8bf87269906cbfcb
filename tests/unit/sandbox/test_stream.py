"""What a stand-in of Braze sends: events of all kinds, odd ones, test events, and those of a campaign."""

import json
import re
from random import Random

import pytest

from relay.sandbox.braze.current import MOST_BYTES
from relay.sandbox.braze.oddities import ODDITIES
from relay.sandbox.braze.reactions import CurrentsSwitches
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.shapes import list_types, make_event
from relay.sandbox.stream import Stream
from relay.testing import Destination

OPEN = "users.messages.email.Open"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def strings(value) -> list[str]:
    if isinstance(value, dict | list):
        return [text for one in (value.values() if isinstance(value, dict) else value) for text in strings(one)]
    return [value] if isinstance(value, str) else []


@pytest.fixture
def plain():
    """An event with every field that the oddities are about."""
    rng = Random(0)
    while True:
        event = make_event(OPEN, rng, 2e9)
        if "field_of_a_later_release" in event["properties"]:
            continue
        filled = {"campaign_id", "canvas_id", "campaign_name", "email_address"} <= event["properties"].keys()
        if filled and "[" not in event["properties"]["email_address"] and "external_user_id" in event["user"]:
            return event


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("unknown_type", lambda event: event["event_type"] not in list_types()),
        ("unknown_field", lambda event: isinstance(event["properties"].get("field_of_a_later_release"), dict)),
        ("no_external_user_id", lambda event: "external_user_id" not in event["user"] and "user_id" in event["user"]),
        ("no_user_id", lambda event: "user_id" not in event["user"] and "external_user_id" in event["user"]),
        ("no_device_id", lambda event: "device_id" not in event["user"] and event["user"]),
        ("no_user", lambda event: event["user"] == {}),
        ("no_campaign", lambda event: "campaign_id" not in event["properties"]),
        ("no_canvas", lambda event: "canvas_id" not in event["properties"]),
        ("null_names", lambda event: event["properties"]["campaign_name"] is None),
        ("redacted", lambda event: event["properties"]["email_address"] == "[REDACTED]"),
        ("hashed", lambda event: re.fullmatch(r"[0-9a-f]{64}", event["properties"]["email_address"])),
        ("late", lambda event: event["time"] < 2e9 - 3600),
        ("large", lambda event: MOST_BYTES * 0.95 < len(json.dumps(event)) <= MOST_BYTES),
    ],
)
def test_an_oddity_is_what_its_name_says(plain, name, seen):
    assert not seen(plain)
    odd = ODDITIES[name](plain, Random(3))
    assert seen(odd)
    assert odd.keys() == plain.keys()


def test_each_oddity_has_been_looked_at():
    table = test_an_oddity_is_what_its_name_says.pytestmark[0].args[1]
    assert {name for name, _ in table} == ODDITIES.keys()


async def test_test_events_are_one_of_each_chosen_type_with_senseless_values():
    async with Destination() as destination, CurrentsSender(destination.url) as braze:
        assert Stream.select(braze, ["email", "users.behaviors.Purchase"]).queue_test_events() > 5
        await braze.send()
    events = [json.loads(body) for body in destination.bodies()]
    assert len({event["event_type"] for event in events}) == len(events) == braze.counts.accepted
    for event in events:
        assert all(UUID.fullmatch(text) for text in strings([event["user"], event["properties"]]))


async def test_a_stream_has_all_chosen_types_and_oddities_in_their_share():
    async with CurrentsSender("http://127.0.0.1:9", switches=CurrentsSwitches(odd=0.5)) as braze:
        stream, seen = Stream.select(braze, ["email"]), []
        async for kind, body in stream.make_events(rate=20_000):
            assert json.loads(body)["event_type"] == kind
            seen.append(kind)
            if len(seen) == 400:
                break
    assert set(stream.chosen) < set(seen), "and an unknown one"
    assert 0 < seen.count("users.messages.pigeon.Send") < 40


async def test_a_campaign_goes_to_each_of_its_audience():
    async with Destination() as destination, CurrentsSender(destination.url) as braze:
        assert Stream(braze).queue_campaign(OPEN, {"anna", "bert"}, "Come back") == 2
        await braze.send()
    events = [json.loads(body) for body in destination.bodies()]
    assert [event["user"]["external_user_id"] for event in events] == ["anna", "bert"]
    assert {event["properties"]["campaign_name"] for event in events} == {"Come back"}


async def test_what_there_is_not_cannot_be_sent():
    async with CurrentsSender("http://127.0.0.1:9") as braze:
        with pytest.raises(KeyError):
            Stream(braze).queue_events("users.messages.pigeon.Send", 1, None, {})
        with pytest.raises(KeyError):
            Stream(braze).queue_events(OPEN, 1, "purple", {})
        with pytest.raises(ValueError, match="no event type is pigeons"):
            Stream.select(braze, ["pigeons"])
