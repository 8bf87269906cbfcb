import json
import time
from pathlib import Path
from random import Random

import orjson
import pytest

from relay.catalogue import TYPES
from relay.sandbox.shapes import list_types, make_event

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "currents"
CURRENT = sorted(name for name, known in TYPES.items() if known.status == "current")


def some_events(type: str) -> list[dict]:
    rng = Random(type)
    return [make_event(type, rng, time.time()) for _ in range(300)]


def test_every_current_type_of_the_catalogue_has_a_shape_and_no_other():
    assert sorted(list_types()) == CURRENT


@pytest.mark.parametrize("type", CURRENT)
def test_events_have_the_envelope_that_braze_documents(type):
    before = int(time.time())
    events = some_events(type)
    assert len({event["id"] for event in events}) == len(events)
    for event in events:
        assert orjson.loads(orjson.dumps(event)) == event
        assert list(event) == ["event_type", "id", "time", "user", "properties"]
        assert event["event_type"] == type
        assert isinstance(event["time"], int)
        assert before - 3600 < event["time"] <= time.time()


def test_events_of_a_type_differ_in_what_receivers_stumble_over():
    events = some_events("users.messages.email.Open")
    properties = [event["properties"] for event in events]
    assert any("external_user_id" not in event["user"] for event in events)
    assert any(found["campaign_name"] is None for found in properties if "campaign_name" in found)
    assert any("campaign_id" not in found for found in properties)
    assert any("canvas_id" not in found for found in properties)
    assert any(found["email_address"] == "[REDACTED]" for found in properties)
    assert any("field_of_a_later_release" in found for found in properties)
    assert any(event["user"] == {} for event in some_events("users.messages.sms.InboundReceive"))


def test_custom_attributes_are_json_in_a_text():
    for event in some_events("users.profile.Update"):
        text = event["properties"]["custom_attributes"]
        assert isinstance(text, str)
        assert isinstance(json.loads(text), dict)


def test_landing_page_events_have_no_user_and_surveys_list_answers_in_text():
    assert all(event["user"] == {} for event in some_events("users.messages.landingpage.Impression"))
    assert any(event["user"] for event in some_events("users.messages.landingpage.Click"))
    for event in some_events("users.messages.survey.Response"):
        assert isinstance(json.loads(event["properties"]["answer_multiple_strings"]), list)


@pytest.mark.parametrize(
    ("type", "with_it", "without"),
    [
        ("users.behaviors.liveactivity.PushToStartTokenChange", {"app_id", "app_group_id"}, {"campaign_id"}),
        ("users.behaviors.subscription.GlobalStateChange", {"channel_identifier"}, {"message_variation_name"}),
        ("users.messages.sms.Delivery", {"is_sms_fallback"}, {"device_id"}),
        ("users.messages.email.SoftBounce", {"email_address"}, {"device_id"}),
    ],
)
def test_types_without_a_sample_have_the_fields_of_their_schema(type, with_it, without):
    """Of the storage schemas, the fields that have a place in the Custom HTTP form."""
    events = [event for event in some_events(type) if "field_of_a_later_release" not in event["properties"]]
    fields = set().union(*(event["properties"].keys() | event["user"].keys() for event in events))
    assert with_it <= fields
    assert not without & fields


def test_the_same_user_and_campaign_come_again():
    events = some_events("users.messages.email.Open") + some_events("users.messages.email.Click")
    names = {event["properties"].get("campaign_id"): event["properties"].get("campaign_name") for event in events}
    assert len(names) < 40
    assert len({event["user"]["user_id"] for event in events}) < len(events)


def test_fields_and_kinds_of_value_are_those_of_the_samples():
    if not SAMPLES.is_dir():
        pytest.skip(f"no sample events at {SAMPLES}")
    samples = [json.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("*.json"))]
    for sample in samples:
        if sample["event_type"] not in CURRENT:
            continue
        plain = next(event for event in some_events(sample["event_type"]) if _fields(event) == _fields(sample))
        kinds = {field: _kind(value) for field, value in plain["properties"].items()}
        assert kinds == {field: _kind(value) for field, value in sample["properties"].items()}


def _fields(event):
    """Which fields the event fills."""
    return event["user"].keys(), {field for field, value in event["properties"].items() if value is not None}


def _kind(value):
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_a_type_without_a_shape_is_refused():
    with pytest.raises(KeyError):
        make_event("users.messages.pigeon.Send", Random(), time.time())
