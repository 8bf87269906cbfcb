"""The connector type `segment` against the stand-in of Segment: names, identities, limits and refusals."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from pydantic import ValidationError

from relay.api import DELIVERED, Batch, Block, Event, Kind, Reject, Retry, Secret, Skipped, Unauthorized
from relay.catalogue import TYPES
from relay.sandbox import SegmentApi
from relay.testing import ConnectorSuite
from relay_plugins.segment import SegmentConnector
from relay_plugins.segment.translate import make_name

SEND = "users.messages.email.Send"
DOCUMENTED = {
    "users.messages.pushnotification.Send": "Push Notification Sent",
    "users.messages.pushnotification.Open": "Push Notification Tapped",
    "users.messages.pushnotification.Bounce": "Push Notification Bounced",
    "users.messages.pushnotification.IosForeground": "iOS Foreground Push Opened",
    "users.messages.email.Send": "Email Sent",
    "users.messages.email.Delivery": "Email Delivered",
    "users.messages.email.Open": "Email Opened",
    "users.messages.email.Click": "Email Link Clicked",
    "users.messages.email.Bounce": "Email Bounced",
    "users.messages.email.SoftBounce": "Email Soft Bounced",
    "users.messages.email.MarkAsSpam": "Email Marked As Spam",
    "users.messages.email.Unsubscribe": "Email Unsubscribed",
    "users.messages.sms.Send": "SMS Sent",
    "users.messages.sms.CarrierSend": "SMS Sent to Carrier",
    "users.messages.sms.Delivery": "SMS Delivered",
    "users.messages.sms.DeliveryFailure": "SMS Delivery Failed",
    "users.messages.sms.Rejection": "SMS Rejected",
    "users.messages.sms.InboundReceive": "SMS Inbound Received",
    "users.behaviors.subscriptiongroup.StateChange": "Subscription Group State Changed",
    "users.messages.inappmessage.Impression": "In-App Message Viewed",
    "users.messages.inappmessage.Click": "In-App Message Clicked",
    "users.messages.contentcard.Send": "Content Card Sent",
    "users.messages.contentcard.Impression": "Content Card Viewed",
    "users.messages.contentcard.Click": "Content Card Clicked",
    "users.messages.contentcard.Dismiss": "Content Card Dismissed",
    "users.messages.webhook.Send": "Webhook Sent",
    "users.campaigns.Conversion": "Campaign Converted",
    "users.campaigns.EnrollInControl": "Campaign Control Group Entered",
    "users.canvas.Conversion": "Canvas Converted",
    "users.canvas.Entry": "Canvas Entered",
    "users.behaviors.Uninstall": "Application Uninstalled",
}
"""Braze docs, Segment for Currents."""


def event(number: int, type: str = SEND, **more: object) -> Event:
    data = {
        "event_type": type,
        "id": f"id-{number}",
        "time": 1_790_000_000,
        "user": {"external_user_id": "anna"},
        "properties": {"n": number},
    } | more
    return Event(orjson.dumps(data), Kind("braze", type), number, 0.0)


def batch_of(*events: Event) -> Batch:
    return Batch([Block.of(events)])


@pytest.fixture
async def segment() -> AsyncIterator[SegmentApi]:
    async with SegmentApi("write") as api:
        yield api


@pytest.fixture
def make(connect, segment, monkeypatch):
    monkeypatch.setenv("RELAY_TEST_WRITE_KEY", "write")
    return lambda **more: connect(
        SegmentConnector, **{"endpoint": segment.url, "write_key": {"env": "RELAY_TEST_WRITE_KEY"}} | more
    )


class TestSegmentAsAnHttpConnector(ConnectorSuite):
    lacks: ClassVar = {
        "large": "a call has at most 32 KB",
        "no_user": "Segment needs a user or a device",
    }

    def make(self, url: str, token: Secret, folder: Path) -> SegmentConnector:
        return SegmentConnector(
            "s", SegmentConnector.Settings(type="segment", endpoint=url, write_key=token), folder=folder
        )


def test_types_have_the_names_that_braze_gives_to_segment() -> None:
    assert {one: make_name(one) for one in DOCUMENTED} == DOCUMENTED
    names = [make_name(one) for one in TYPES]
    assert len({*names}) == len(names)
    assert make_name("users.messages.rcs.Send") == "RCS Sent"
    assert make_name("users.canvas.costep.Conversion") == "Canvas Step Converted"
    assert make_name("users.canvas.costep.Send") == "Canvas Step Sent"
    assert make_name("users.messages.newThing.BigOpen") == "New Thing Big Opened"
    assert make_name("Ärger") == "Ärger"


async def test_every_sample_arrives_as_braze_would_send_it(make, segment, samples) -> None:
    bodies = [orjson.loads(body) | {"id": name} for name, body in samples.items()]  # some samples share an id
    known = [
        body
        for body in bodies
        if body["event_type"] not in ("users.UserDeleteRequest", "users.UserOrphan")
        and (body["user"].get("external_user_id") or body["user"].get("device_id"))
    ]
    outcomes = await make().deliver(batch_of(*(event(0, body["event_type"], **body) for body in bodies)))
    assert sum(outcome == DELIVERED for outcome in outcomes) == len(known) == len(segment.calls)
    by_id = {call["messageId"]: call for call in segment.calls}
    for body in known:
        call, user = by_id[body["id"]], body["user"]
        assert call["type"] == "track"
        own = body["properties"]["name"] if body["event_type"] == "users.behaviors.CustomEvent" else None
        assert call["event"] == (own or make_name(body["event_type"]))
        assert call["properties"] == body["properties"]
        identity = [call.get("userId"), call.get("anonymousId")]
        known_as = user.get("external_user_id")
        assert identity == ([known_as, None] if known_as else [None, user["device_id"]])
        assert datetime.fromisoformat(call["timestamp"]).timestamp() == body["time"]
        address = body["properties"].get("email_address")
        assert call.get("context") == ({"traits": {"email": address}} if address else None)


async def test_identity_names_and_what_has_neither_user_nor_device(make, segment) -> None:
    anonymous = {"device_id": "d-1", "user_id": "5f"}
    events = [
        event(1, user=anonymous),
        event(2, user={"external_user_id": "[REDACTED]", "device_id": 7}),
        event(3, user={"external_user_id": ""}),
        event(4, "users.behaviors.CustomEvent", properties={"name": "tapped"}),
        event(5, "users.UserOrphan"),
        event(6, properties={"email_address": "[REDACTED]"}),
        event(7, id="x" * 100, time=None),
        event(8, time=1e15),
    ]
    connector = make(names={"users.behaviors.CustomEvent": "App: {name}", SEND: "Mailed"})
    outcomes = await connector.deliver(batch_of(*events))
    assert [type(one).__name__ for one in outcomes] == [
        *("Delivered", "Delivered", "Reject", "Delivered", "Skipped", "Delivered", "Delivered", "Reject"),
    ]
    assert "user.external_user_id nor user.device_id" in str(outcomes[2])
    assert [call.get("anonymousId") for call in segment.calls] == ["d-1", "7", None, None, None]
    assert [call["event"] for call in segment.calls] == ["Mailed", "Mailed", "App: tapped", "Mailed", "Mailed"]
    assert all("context" not in call for call in segment.calls)
    assert "timestamp" not in segment.calls[-1]
    assert len(segment.calls[-1]["messageId"]) == 32
    other = make(identity="user_id", without_identity="skip")
    assert isinstance((await other.deliver(batch_of(event(9, user={}))))[0], Skipped)
    await other.deliver(batch_of(event(10, user=anonymous)))
    assert segment.calls[-1]["userId"] == "5f"


async def test_an_updated_profile_identifies_its_user(make, segment) -> None:
    properties = {
        "email_address": "a@example.com",
        "first_name": "Anna",
        "phone_number": "[REDACTED]",
        "home_city": None,
        "time_ms": 1,
        "app_id": "x",
        "custom_attributes": '{"plan": "pro", "gone": null}',
        "language": "en",
    }
    user = {"external_user_id": "anna", "timezone": "Asia/Tokyo"}
    profile = event(1, "users.profile.Update", user=user, properties=properties)
    broken = event(2, "users.profile.Update", properties={"custom_attributes": "{nope"})
    done, refused = await make().deliver(batch_of(profile, broken))
    assert done == DELIVERED
    assert isinstance(refused, Reject)
    (call,) = segment.calls
    assert call == {
        "type": "identify",
        "messageId": "id-1",
        "userId": "anna",
        "timestamp": "2026-09-21T14:13:20.000+00:00",
        "traits": {
            "plan": "pro",
            "gone": None,
            "timezone": "Asia/Tokyo",
            "email": "a@example.com",
            "firstName": "Anna",
            "language": "en",
        },
    }


async def test_a_batch_is_cut_to_requests_and_a_large_event_is_refused_alone(make, segment) -> None:
    text = "x" * 30_000
    outcomes = await make().deliver(
        batch_of(
            *(event(number, properties={"text": text}) for number in range(40)), event(40, properties={"t": text * 2})
        )
    )
    assert outcomes[:40] == [DELIVERED] * 40
    assert isinstance(outcomes[40], Reject)
    assert "32,768" in str(outcomes[40])
    assert segment.statuses == {200: 3}
    assert await make().deliver(batch_of(*(event(number) for number in range(100, 2701)))) == [DELIVERED] * 2601
    assert (len(segment.calls), segment.refused.total()) == (2641, 0)


async def test_a_refused_call_is_found_and_the_others_go(make, segment) -> None:
    segment.switches = segment.switches.replace(bad_call="refuse")
    named = make(names={"users.behaviors.Purchase": "{name}"})
    bad = event(5, "users.behaviors.CustomEvent", properties={"name": "ok"}, id="")
    outcomes = await named.deliver(batch_of(*(event(number) for number in range(5)), bad))
    assert outcomes == [DELIVERED] * 6  # an empty messageId is none that Segment refuses
    segment.faults.extend([400, 400])
    outcomes = await named.deliver(batch_of(*(event(number) for number in range(10, 13))))
    assert [isinstance(one, Reject) for one in outcomes] == [True, False, False]
    assert {call["messageId"] for call in segment.calls} >= {"id-11", "id-12"}


async def test_what_comes_again_is_there_once_and_failures_say_what_went(make, segment) -> None:
    connector, text = make(), "x" * 30_000
    batch = batch_of(*(event(number, properties={"text": text}) for number in range(20)))
    segment.faults.extend([200, 503])
    outcomes = await connector.deliver(batch)
    assert [*map(type, outcomes)] == [type(DELIVERED)] * 16 + [Retry] * 4
    assert await connector.deliver(batch) == [DELIVERED] * 20
    assert (len(segment.calls), segment.duplicates) == (20, 16)
    segment.switches = segment.switches.replace(wrong_key="refuse")
    segment._write_key = "other"
    assert [*map(type, await connector.deliver(batch))] == [Unauthorized] * 20


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"names": {SEND: "App: {nam}"}}, r"only \{name\} can be filled in, got 'App: \{nam\}'"),
        ({"names": {SEND: "{name"}}, r"only \{name\} can be filled in"),
        ({"endpoint": "https://api.segment.io/v1/batch/"}, "endpoint: leave out /v1/batch, which relay adds"),
    ],
)
def test_settings_that_would_lead_elsewhere_are_mistakes(tmp_path: Path, settings: dict[str, object], mistake: str):
    (tmp_path / "key").write_text("key")
    given = {"type": "segment", "write_key": {"file": str(tmp_path / "key")}} | settings
    with pytest.raises(ValidationError, match=mistake):
        SegmentConnector.Settings.model_validate(given)
