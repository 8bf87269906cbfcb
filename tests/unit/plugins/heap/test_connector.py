"""Heap: its webhook, and its server-side API with names, properties, identities and refusals."""

from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.api import DELIVERED, Batch, Block, Event, Kind, Reject, Retry, Skipped, Unauthorized
from relay.catalogue import TYPES
from relay.testing import Answer, Destination
from relay_plugins.heap import Heap, translate
from relay_plugins.heap.limits import HeapLimits
from relay_plugins.heap.translate import NAMES_REMEMBERED, flatten, make_readable

Make = Callable[..., Heap]
LATER = 1_790_000_009_500


def event(number: int, type: str = "users.messages.email.Send", user: Any = "anna", **more: Any) -> Event:
    data = {
        "event_type": type,
        "id": f"id-{number}",
        "time": 1_790_000_000 + number,
        "user": {"external_user_id": user, "user_id": "5f"} if user is not None else {"user_id": "5f"},
        "properties": {"campaign_name": "Autumn"},
    } | more
    return Event(orjson.dumps(data), Kind("braze", type), number, 0.0)


def batch_of(*events: Event) -> Batch:
    return Batch([Block.of(events)])


@pytest.fixture
async def heap() -> AsyncIterator[Destination]:
    async with Destination() as server:
        yield server


@pytest.fixture
async def connect(heap: Destination, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Heap] = []

    def make(**settings: Any) -> Heap:
        table = {"type": "heap", "mode": "api", "app_id": "17", "endpoint": heap.url} | settings
        made.append(Heap("heap", Heap.Settings.model_validate(table), folder=tmp_path))
        return made[-1]

    yield make
    for connector in made:
        await connector.release()


def sent(heap: Destination) -> list[dict[str, Any]]:
    return [orjson.loads(request.body) for request in heap.requests]


async def test_the_webhook_gets_what_braze_would_send(heap: Destination, tmp_path: Path) -> None:
    settings = Heap.Settings.model_validate({"type": "heap", "endpoint": heap.url + "hook"})
    connector = Heap("heap", settings, folder=tmp_path)
    assert await connector.deliver(batch_of(event(1), event(2))) is None
    await connector.release()
    assert heap.bodies() == [event(1).body, event(2).body]
    assert heap.requests[0].headers["Braze-Currents-Version"] == "1"


async def test_events_are_tracked_in_bulk(heap: Destination, connect: Make) -> None:
    connector = connect(prefix="braze-", names={"users.behaviors.Purchase": "Bought"})
    batch = batch_of(event(1), event(2, "users.behaviors.Purchase"))
    assert await connector.deliver(batch) == [DELIVERED, DELIVERED]
    (body,) = sent(heap)
    assert heap.requests[0].target == "/api/track"
    assert body["app_id"] == "17"
    assert body["events"][0] == {
        "identity": "anna",
        "event": "braze-Email Send",
        "idempotency_key": "id-1",
        "timestamp": "2026-09-21T14:13:21.000+00:00",
        "properties": {
            "braze-external_user_id": "anna",
            "braze-user_id": "5f",
            "braze-campaign_name": "Autumn",
        },
    }
    assert body["events"][1]["event"] == "braze-Bought"


async def test_events_without_the_identity_are_refused_and_the_others_go(heap: Destination, connect: Make) -> None:
    outcomes = await connect().deliver(
        batch_of(event(1, user=None), event(2), event(3, user="x" * 256), event(4, user=[]))
    )
    assert outcomes is not None
    assert [type(outcome) for outcome in outcomes] == [Reject, type(DELIVERED), Reject, Reject]
    assert "user.external_user_id" in str(outcomes[0])
    assert [entry["idempotency_key"] for entry in sent(heap)[0]["events"]] == ["id-2"]
    assert await connect(identity="user_id").deliver(batch_of(event(1, user=None))) == [DELIVERED]


@pytest.mark.parametrize("type", ["cohort.Change", "users.UserDeleteRequest", "users.UserOrphan"])
async def test_what_heap_is_not_to_know_is_left_out_and_says_why(heap: Destination, connect: Make, type: str) -> None:
    outcomes = await connect(identity="user_id").deliver(batch_of(event(1, type, user=None), event(2))) or ()
    assert isinstance(outcomes[0], Skipped)
    assert outcomes[0].reason.startswith(f"{type} ")
    assert outcomes[1] == DELIVERED
    assert [entry["idempotency_key"] for entry in sent(heap)[0]["events"]] == ["id-2"]


async def test_an_app_that_heap_does_not_know_is_not_the_events_fault(heap: Destination, connect: Make) -> None:
    heap.script.append(Answer(status=400, body=b"postBody.app_id is not known"))
    outcomes = await connect().deliver(batch_of(*(event(number) for number in range(4)))) or ()
    assert [type(outcome) for outcome in outcomes] == [Unauthorized] * 4
    assert "app_id" in str(outcomes[0])
    assert len(heap.requests) == 1


@pytest.mark.parametrize(
    "said", [b"postBody.events[0].properties.app_id is bad", b"properties.app_id is bad", b"braze-app_id is bad"]
)
async def test_a_property_of_that_name_is_the_events_fault(heap: Destination, connect: Make, said: bytes) -> None:
    heap.script.append(Answer(status=400, body=said))
    (outcome,) = await connect().deliver(batch_of(event(1))) or ()
    assert isinstance(outcome, Reject)


async def test_an_event_that_has_no_form_in_heap_is_refused_alone(connect: Make) -> None:
    outcomes = await connect().deliver(batch_of(event(1, time=1e18), event(2)))
    assert outcomes is not None
    assert isinstance(outcomes[0], Reject)
    assert outcomes[1] == DELIVERED


async def test_profiles_become_user_properties_and_the_newest_value_wins(heap: Destination, connect: Make) -> None:
    changes = [
        {"plan": "pro", "Email": "a@example.com", "time_ms": LATER},
        {"plan": "basic", "city": "Graz"},
        {"plan": "free"},
        {"plan": "lite", "time_ms": LATER - 1},
    ]
    events = [
        event(number, "users.profile.Update", user, properties=properties)
        for number, user, properties in zip((9, 1, 2, 9), ("anna", "anna", "bert", "anna"), changes, strict=True)
    ]
    assert await connect().deliver(batch_of(*events)) == [DELIVERED] * 4
    (body,) = sent(heap)
    assert heap.requests[0].target == "/api/add_user_properties"
    assert body["users"] == [
        {"identity": "anna", "properties": {"plan": "pro", "city": "Graz", "email": "a@example.com"}},
        {"identity": "bert", "properties": {"plan": "free"}},
    ]


def update(number: int, **properties: Any) -> Event:
    return event(number, "users.profile.Update", properties=properties)


async def properties_in_heap(heap: Destination, connector: Heap, *events: Event) -> Any:
    assert await connector.deliver(batch_of(*events)) == [DELIVERED] * len(events)
    (user,) = sent(heap)[-1]["users"]
    return user["properties"]


async def test_each_custom_attribute_is_a_user_property_merged_for_itself(heap: Destination, connect: Make) -> None:
    """Braze sends them as JSON in a text. Looked at as well: the webhook, which passes the text on, the stand-in, which
    sends such a text now, and the other JSON texts of Braze (`message_extras`), which are facts of an event."""
    updates = [
        update(1, custom_attributes='{"plan":"free","pets":["cat","dog"],"address":{"city":"Graz"}}'),
        update(2, custom_attributes='{"plan":"pro","tall":true,"gone":null}'),
        update(3, custom_attributes={"score": 5}),
        update(4, custom_attributes="[REDACTED]", first_name="Anna"),
        update(5, custom_attributes=None, last_name="Berg"),
    ]
    found = await properties_in_heap(heap, connect(), *updates)
    merged = {"plan": "pro", "pets": "cat||dog", "address.city": "Graz", "tall": "true", "score": 5}
    assert found == merged | {"first_name": "Anna", "last_name": "Berg"}
    with_prefix = await properties_in_heap(heap, connect(prefix="braze-"), updates[1])
    assert with_prefix == {"braze-plan": "pro", "braze-tall": "true"}


@pytest.mark.parametrize("text", ["plain", "[1]", "17", '{"a":', '{"a":1}}', '"{}"', "1" * 64, "[" * 5000])
async def test_custom_attributes_that_are_no_object_are_parked(heap: Destination, connect: Make, text: str) -> None:
    outcomes = await connect().deliver(batch_of(update(1, custom_attributes=text, country="AT"), update(2, a=1))) or ()
    assert isinstance(outcomes[0], Reject)
    assert str(outcomes[0]).startswith("properties.custom_attributes is no JSON object")
    assert [user["properties"] for user in sent(heap)[-1]["users"]] == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"odd":NaN,"ok":1}', {"ok": 1}),
        ('{"odd":1e400,"ok":[1,2],"\\u00fc":{"x":2}}', {"ok": "1||2", "ü.x": 2}),
        ('{"odd":{"deep":-Infinity},"ok":1}', {"ok": 1}),
        ('{"cut":"a\\ud83d","ok":1}', {"cut": "a\ufffd", "ok": 1}),
        ('{"ok":1,"odd":' + "[" * 2000 + "]" * 2000 + "}", {"ok": 1}),
        ("", {}),
        ("null", {}),
        (" {} ", {}),
    ],
)
async def test_an_odd_custom_attribute_costs_no_other(
    heap: Destination, connect: Make, text: str, found: dict[str, Any]
) -> None:
    """Looked at as well: names, values in objects, nesting; no text of attributes ever becomes a property itself."""
    assert await properties_in_heap(heap, connect(), update(1, custom_attributes=text, country="AT")) == (
        {"country": "AT"} | found
    )


async def test_an_attribute_that_is_null_now_is_not_sent_with_its_old_value(heap: Destination, connect: Make) -> None:
    """Looked at as well: objects, the prefix, a later value again, fields of Braze's own, an update of nulls alone."""
    updates = [
        update(1, country="AT", custom_attributes='{"a":1,"b":1,"c":1,"d":{"x":1,"y":1},"e":{"x":1},"ef":1}'),
        update(2, country=None, custom_attributes='{"a":null,"b":null,"d":{"x":null},"e":null}'),
        update(3, custom_attributes={"b": 2}),
    ]
    found = {"c": 1, "d.y": 1, "ef": 1, "b": 2}
    assert await properties_in_heap(heap, connect(), *updates) == found | {"country": "AT"}
    with_prefix = await properties_in_heap(heap, connect(prefix="z-"), *updates)
    assert with_prefix == {f"z-{name}": value for name, value in found.items()} | {"z-country": "AT"}
    outcomes = await connect().deliver(
        batch_of(update(1, custom_attributes='{"a":1}'), update(2, custom_attributes='{"a":null}'))
    )
    assert [type(one) for one in outcomes or ()] == [Skipped, Skipped]


async def test_an_update_tells_of_the_user_and_not_of_itself(heap: Destination, connect: Make) -> None:
    facts = {"time_ms": LATER, "update_source": "api", "archived": False, "app_group_id": "g", "app_id": "a"}
    zone = {"external_user_id": "anna", "timezone": "Europe/Vienna"}
    data = orjson.loads(update(1, **facts, country="AT").body) | {"user": zone}
    found = await properties_in_heap(heap, connect(), update(1).with_data(data))
    assert found == {"country": "AT", "timezone": "Europe/Vienna"}
    assert await properties_in_heap(heap, connect(), update(2, timezone="Asia/Tokyo")) == {"timezone": "Asia/Tokyo"}
    (skipped,) = await connect().deliver(batch_of(update(3, **facts))) or ()
    assert isinstance(skipped, Skipped)


async def test_brazes_own_field_wins_over_a_custom_attribute_of_its_name(heap: Destination, connect: Make) -> None:
    attributes = '{"country":"attribute","Email":"attribute","gender":"attribute","time_ms":"attribute"}'
    mine = update(1, country="AT", email_address="a@example.com", gender=None, custom_attributes=attributes)
    found = await properties_in_heap(heap, connect(), mine)
    assert found == {"country": "AT", "email": "a@example.com", "gender": "attribute", "time_ms": "attribute"}


@pytest.mark.parametrize(
    ("properties", "user", "winner"),
    [
        ({"timezone": "event"}, {"timezone": "user"}, {"timezone": "event"}),
        ({"timezone": None}, {"timezone": "user"}, {"timezone": "user"}),
        ({"a": {"b": "event"}}, {"a.b": "user"}, {"a.b": "event"}),
        ({"a.b": "event"}, {"a": {"b": "user"}}, {"a.b": "event"}),
        ({"id": "event"}, {"ID": "user"}, {"id_": "event", "ID_": "user"}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "braze-"])
async def test_a_property_wins_over_a_field_of_the_user_with_its_name(
    heap: Destination, connect: Make, properties: Any, user: Any, winner: Any, prefix: str
) -> None:
    """Looked at as well: updates of profiles (above); the webhook sends both where they are."""
    one = event(1, "a.B", properties=properties)
    data = orjson.loads(one.body)
    data["user"] = {"external_user_id": "anna"} | user
    assert await connect(prefix=prefix).deliver(batch_of(one.with_data(data))) == [DELIVERED]
    found = sent(heap)[0]["events"][0]["properties"]
    named = {key.removeprefix(prefix): value for key, value in found.items()}
    expected = {key.rstrip("_") if prefix else key: value for key, value in winner.items()}
    assert named == {"external_user_id": "anna"} | expected


@pytest.mark.parametrize(
    ("names", "properties", "name"),
    [
        ({}, {"name": "Added To Basket"}, "Added To Basket"),
        ({}, {}, "Custom Event"),
        ({}, {"name": ""}, "Custom Event"),
        ({}, {"name": 5}, "Custom Event"),
        ({"users.behaviors.CustomEvent": "Shop: {name}"}, {"name": "Added {x} {name}"}, "Shop: Added {x} {name}"),
        ({"users.behaviors.CustomEvent": "Shop: {name}"}, {}, "Shop: Custom Event"),
        ({"users.behaviors.CustomEvent": "All Of Them"}, {"name": "Added"}, "All Of Them"),
    ],
)
async def test_a_custom_event_has_its_own_name(
    heap: Destination, connect: Make, names: Any, properties: Any, name: str
) -> None:
    custom = event(1, "users.behaviors.CustomEvent", properties=properties)
    assert await connect(prefix="p ", names=names).deliver(batch_of(custom)) == [DELIVERED]
    assert sent(heap)[0]["events"][0]["event"] == "p " + name


async def test_the_name_of_other_types_can_be_filled_in_too(heap: Destination, connect: Make) -> None:
    events = [event(1, "shop.Order", properties={"name": "big"}), event(2, "users.messages.email.Send")]
    names = {"shop.Order": "Order {name}", "users.messages.email.Send": "Braze {name}"}
    await connect(names=names).deliver(batch_of(*events))
    assert [entry["event"] for entry in sent(heap)[0]["events"]] == ["Order big", "Braze Email Send"]


@pytest.mark.parametrize("name", ["{id}", "{name", "name}", "{}", "{name}}"])
def test_nothing_but_the_name_can_be_filled_in(connect: Make, name: str) -> None:
    with pytest.raises(ValidationError, match=r"only \{name\} can be filled in"):
        connect(names={"shop.Order": name})


@pytest.mark.parametrize("identity", ["external_user_id", "user_id"])
@pytest.mark.parametrize("type", ["users.messages.email.Send", "users.profile.Update"])
async def test_what_braze_has_redacted_is_no_identity(
    heap: Destination, connect: Make, identity: str, type: str
) -> None:
    """Looked at as well: erasures, for which it is no id of anybody (tests/unit/journal/test_users.py); a hash,
    which is one, as it is the same for every event of a user."""
    data = orjson.loads(event(1, type).body)
    data["user"][identity] = "[REDACTED]"
    redacted, hashed = event(1, type).with_data(data), event(2, type)
    outcomes = await connect(identity=identity).deliver(batch_of(redacted, hashed)) or ()
    assert isinstance(outcomes[0], Reject)
    assert "redacted" in outcomes[0].reason
    assert outcomes[1] == DELIVERED
    (skipped,) = await connect(identity=identity, without_identity="skip").deliver(batch_of(redacted)) or ()
    assert isinstance(skipped, Skipped)


@pytest.mark.parametrize("answer", [b"postBody.events[0].properties should be object", b"no"])
async def test_of_a_refused_request_the_refused_event_stands_alone(
    heap: Destination, connect: Make, answer: bytes
) -> None:
    bad = Answer(status=400, body=answer.replace(b"[0]", b"[2]"))
    heap.script.extend([bad, 400] if b"[" in answer else [bad, 200, bad, Answer(status=400, body=b"no"), 200])
    outcomes = await connect().deliver(batch_of(*(event(number) for number in range(4))))
    assert outcomes is not None
    assert [isinstance(outcome, Reject) for outcome in outcomes] == [False, False, True, False]


async def test_what_there_is_no_time_to_take_apart_goes_the_next_time(
    heap: Destination, connect: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "relay_plugins.heap.bulk_track.time", SimpleNamespace(monotonic=count().__next__)
    )  # a second a look
    connector = connect(app_id="19", timeout="30s")
    left, tries = [event(number) for number in range(60)], 0
    while left:
        heap.script.extend([Answer(status=400, body=b"postBody.events[0].event is bad")] * len(left))
        outcomes = await connector.deliver(batch_of(*left)) or ()
        refused = [isinstance(outcome, Reject) for outcome in outcomes]
        assert any(refused)
        assert all(isinstance(one, Reject) or (isinstance(one, Retry) and not one.hold_lane) for one in outcomes)
        left = [one for one, gone in zip(left, refused, strict=True) if not gone]
        tries += 1
    assert tries > 1


async def test_a_heap_too_slow_to_take_anything_apart_gets_smaller_batches(
    heap: Destination, connect: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_plugins.heap.bulk_track.time", SimpleNamespace(monotonic=count(step=20).__next__))
    heap.script.append(Answer(status=400, body=b"no"))
    with pytest.raises(Reject, match="400"):
        await connect(app_id="20", timeout="60s").deliver(batch_of(*(event(number) for number in range(4))))
    assert len(heap.requests) == 1


async def test_a_busy_heap_is_not_asked_for_the_other_parts(heap: Destination, connect: Make) -> None:
    heap.script.extend([Answer(status=400, body=b"no"), 503])
    outcomes = await connect().deliver(batch_of(*(event(number) for number in range(4)))) or ()
    assert [type(outcome) for outcome in outcomes] == [Retry] * 4
    assert len(heap.requests) == 2


def test_changes_of_one_profile_stay_in_order(connect: Make) -> None:
    profile, other = event(1, "users.profile.Update"), event(2)
    connector = connect()
    assert connector.keeps_order
    assert (connector.key(profile), connector.key(other)) == ("anna", None)
    assert connect(order_by="user.user_id").key(profile) == "5f"
    webhook = Heap.Settings.model_validate({"type": "heap", "endpoint": "https://heap.example"})
    assert not Heap("heap", webhook, folder=Path()).keeps_order


async def test_a_busy_or_closed_heap_is_not_the_events_fault(heap: Destination, connect: Make) -> None:
    heap.script.extend([Answer(status=429, headers={"Retry-After": "7"}), 401])
    (busy,) = await connect().deliver(batch_of(event(1))) or ()
    assert isinstance(busy, Retry)
    assert (busy.after, busy.hold_lane) == (7, True)
    (closed,) = await connect().deliver(batch_of(event(1))) or ()
    assert isinstance(closed, Unauthorized)


async def test_what_a_busy_identity_has_too_much_waits_alone(heap: Destination, connect: Make) -> None:
    hot = [event(number, user="busy") for number in range(1002)]
    connector = connect(app_id="18", batch={"events": 1000})
    first = await connector.deliver(batch_of(*hot[:1000]))
    second = await connector.deliver(batch_of(*hot[1000:], event(2000)))
    assert first == [DELIVERED] * 1000
    assert second is not None
    assert second[2] == DELIVERED
    for waiting in second[:2]:
        assert isinstance(waiting, Retry)
        assert not waiting.hold_lane
        assert 50 < (waiting.after or 0) <= 60
    another = await connect(app_id="18").deliver(batch_of(event(3000, user="busy")))
    assert another is not None
    assert isinstance(another[0], Retry), "two connectors to one app share its limits"
    assert len(heap.bodies()) == 1001


@pytest.mark.parametrize(
    ("event_type", "name"),
    [
        ("users.messages.email.Send", "Email Send"),
        ("users.messages.email.MarkAsSpam", "Email Mark As Spam"),
        ("users.messages.pushnotification.Open", "Push Notification Open"),
        ("users.messages.inappmessage.Click", "In-App Message Click"),
        ("users.behaviors.Purchase", "Purchase"),
        ("users.behaviors.CustomEvent", "Custom Event"),
        ("users.behaviors.app.SessionStart", "App Session Start"),
        ("users.canvas.exit.MatchedAudience", "Canvas Exit Matched Audience"),
        ("users.campaigns.Conversion", "Campaign Conversion"),
        ("users.messages.landingpage.FormSubmission", "Landing Page Form Submission"),
        ("agentconsole.ToolInvocation", "Agent Console Tool Invocation"),
        ("shop.checkout", "Shop Checkout"),
    ],
)
def test_names_can_be_read(event_type: str, name: str) -> None:
    assert make_readable(event_type) == name


def test_no_two_types_have_one_name() -> None:
    names = [make_readable(name) for name in TYPES]
    assert len(set(names)) == len(names) > 90


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        ({"a": {"b": {"c": 1}}}, {"a.b.c": 1}),
        ({"a": [1, "b", None, True]}, {"a": "1||b||true"}),
        ({"a": True, "b": False, "c": None}, {"a": "true", "b": "false"}),
        ({"id": 1, "ID": 2, "Id": "x"}, {"id_": 1, "ID_": 2, "Id_": "x"}),
        ({"id_": 1, "id": 2, "idea": 3, "a": {"id": 4}}, {"id__": 1, "id_": 2, "idea": 3, "a.id": 4}),
        ({"a.b": 1, "a": {"b": 2}}, {"a.b": 1}),
        ({"a": [{"b": 1}]}, {"a": '{"b":1}'}),
        ({"a": "x" * 2000}, {"a": "x" * 1023}),
        ({"x" * 2000: 1}, {"x" * 1023: 1}),
        ({"a": {}, "b": []}, {"b": ""}),
    ],
)
def test_properties_are_flat(given_: dict[str, Any], taken: dict[str, Any]) -> None:
    assert flatten(given_) == taken


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["id", "iD"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text() | st.sampled_from(["id", "ID"]), JSON, max_size=4))
def test_heap_takes_whatever_comes_out(values: dict[str, Any]) -> None:
    for key, value in flatten(values).items():
        assert len(key) < 1025
        assert key.lower() != "id"
        assert isinstance(value, str | int | float)
        assert not isinstance(value, bool)
        assert not isinstance(value, str) or len(value) < 1024


@given(st.dictionaries(st.text() | st.sampled_from(["id", "ID", "name"]), JSON, max_size=4))
def test_properties_whose_names_were_seen_before_come_out_the_same(values: dict[str, Any]) -> None:
    translate._usual.clear()
    assert flatten(deepcopy(values)) == flatten(deepcopy(values))


def test_of_names_that_senders_make_up_not_all_are_remembered() -> None:
    for number in range(2 * NAMES_REMEMBERED):
        make_readable(f"made.up.{number}")
        flatten({f"made up {number}": 1})
    flatten({"name": 1})
    assert "name" in translate._usual
    assert len(translate._usual) <= NAMES_REMEMBERED
    assert make_readable.cache_info().currsize <= NAMES_REMEMBERED


STEPS = st.lists(
    st.tuples(st.floats(0, 40), st.lists(st.sampled_from("abc"), max_size=4), st.floats(0, 30), st.floats(0, 1))
)


@given(STEPS)
def test_no_minute_ever_holds_more_than_the_limits(steps: list[tuple[float, list[str], float, float]]) -> None:
    limits, now, arrived, open_ = (
        HeapLimits(app=5, identity=2),
        0.0,
        list[tuple[float, str]](),
        list[tuple[float, Any]](),
    )
    for wait, identities, latency, share in steps:
        now += wait
        for answer, reservation in sorted((each for each in open_ if each[0] <= now), key=lambda each: each[0]):
            limits.finish(reservation, answer)
            open_.remove((answer, reservation))
        reservation, numbers = limits.reserve(identities, now)
        open_.append((now + latency, reservation))
        arrived += [(now + latency * share, identities[number]) for number in numbers]
    for start, _ in arrived:
        minute = [identity for moment, identity in arrived if start <= moment < start + 59.999]
        assert len(minute) <= 5
        assert all(minute.count(identity) <= 2 for identity in "abc")


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({}, "endpoint is missing"),
        ({"endpoint": "https://heap.example", "region": "eu"}, 'region is for mode = "api"'),
        ({"endpoint": "https://heap.example", "app_id": "1"}, 'app_id is for mode = "api", or for deleting users'),
        ({"endpoint": "https://heap.example", "identity": "user_id"}, "identity is for .* set api_key, too"),
        ({"endpoint": "https://heap.example", "api_key": {"env": "PATH"}}, "app_id is missing"),
        ({"mode": "api"}, "app_id is missing"),
        ({"mode": "api", "app_id": "x"}, "app_id"),
        ({"mode": "api", "app_id": "1", "token": {"env": "PATH"}}, "token is for the webhook"),
        ({"mode": "api", "app_id": "1", "batch": {"events": 1001}}, "1,000 at most"),
    ],
)
def test_settings_of_the_other_mode_are_mistakes(settings: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake):
        Heap.Settings.model_validate({"type": "heap"} | settings)


@pytest.mark.parametrize(
    ("given_", "rate", "events"),
    [({}, 245, 250), ({"rate": 10}, 10, 250), ({"batch": {"age": "1s"}}, 245, 250), ({"batch": {"events": 7}}, 245, 7)],
)
def test_the_api_has_a_rate_limit_and_a_size_limit(given_: dict[str, Any], rate: float, events: int) -> None:
    settings = Heap.Settings.model_validate({"type": "heap", "mode": "api", "app_id": "1"} | given_)
    assert (settings.rate, settings.batch.events) == (rate, events)
