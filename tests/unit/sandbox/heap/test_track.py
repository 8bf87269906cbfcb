"""Heap's server-side API as others see it over HTTP."""

from typing import Any

import aiohttp
import pytest

from relay.sandbox.heap.track import HeapApi

TRACK = "/api/track"


async def call(heap: HeapApi, path: str, body: Any, **headers: str) -> tuple[int, str]:
    body = {"app_id": "1"} | body if isinstance(body, dict) else body
    async with aiohttp.ClientSession() as http, http.post(heap.url + path, json=body, headers=headers) as answer:
        return answer.status, await answer.text()


def bulk(count: int, identity: str = "a") -> dict[str, Any]:
    return {"events": [{"event": "e", "identity": identity}] * count}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (1, " should be object"),
        ({"identity": "a"}, ".event should be"),
        ({"event": "", "identity": "a"}, ".event should be"),
        ({"event": "e" * 1025, "identity": "a"}, ".event should be"),
        ({"event": "e"}, ".identity or user_id"),
        ({"event": "e", "identity": "a", "user_id": "1"}, ".identity or user_id"),
        ({"event": "e", "identity": "a" * 256}, ".identity should be"),
        ({"event": "e", "user_id": 5}, ".user_id should be"),
        ({"event": "e", "user_id": "anna"}, ".user_id should be"),
        ({"event": "e", "user_id": str(1 << 53)}, ".user_id should be"),
        ({"event": "e", "identity": "a", "timestamp": "noon"}, ".timestamp should be"),
        ({"event": "e", "identity": "a", "idempotency_key": 1}, ".idempotency_key should be"),
        ({"event": "e", "identity": "a", "properties": []}, ".properties should be object"),
        ({"event": "e", "identity": "a", "properties": {"Id": 1}}, ".properties.Id is not allowed"),
        ({"event": "e", "identity": "a", "properties": {"k" * 1024: 1}}, ".properties.k"),
        ({"event": "e", "identity": "a", "properties": {"x": None}}, ".properties.x should be string or number"),
        ({"event": "e", "identity": "a", "properties": {"x": True}}, ".properties.x should be string or number"),
        ({"event": "e", "identity": "a", "properties": {"x": {}}}, ".properties.x should be string or number"),
        ({"event": "e", "identity": "a", "properties": {"x": "x" * 1024}}, ".properties.x is too long"),
    ],
)
async def test_one_bad_item_has_the_whole_body_refused_and_is_named(item, said):
    async with HeapApi() as heap:
        status, text = await call(heap, TRACK, {"events": [{"event": "e", "identity": "a"}, item]})
        assert (status, text.startswith("postBody.events[1]" + said)) == (400, True), text
        assert not heap.events
        heap.switches = heap.switches.replace(partial=True)
        assert await call(heap, TRACK, {"events": [{"event": "e", "identity": "a"}, item]}) == (200, text)
        assert len(heap.events) == 1


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (TRACK, [], "postBody should be object"),
        (TRACK, {"app_id": "2"}, "postBody.app_id"),
        (TRACK, {"events": {}}, "array of at most 1000"),
        (TRACK, bulk(1001), "array of at most 1000"),
        (TRACK, {"event": "e", "identity": "a", "properties": 5}, "postBody.events[0].properties should be object"),
        ("/api/add_user_properties", {"users": [{"properties": {}}]}, "postBody.users[0].identity"),
        ("/api/add_account_properties", {"accounts": [{"properties": {}}]}, "postBody.accounts[0].account_id"),
        ("/api/v1/identify", {"identity": "a", "user_id": "x"}, "user_id should be"),
    ],
)
async def test_bodies_that_are_refused(path, body, said):
    async with HeapApi() as heap:
        status, text = await call(heap, path, body)
    assert (status, said in text) == (400, True), text


async def test_an_event_is_kept_as_heap_keeps_it():
    async with HeapApi(clock=lambda: 1_760_000_000.0) as heap:
        properties = {"long": ["x" * 600, "y" * 600], "n": 1.5, "tags": ["a", 2]}
        await call(heap, TRACK, {"event": "e", "identity": "A", "idempotency_key": "k", "properties": properties})
        await call(heap, TRACK, {"events": [{"event": "other", "identity": "b", "idempotency_key": "k"}]})
        await call(heap, TRACK, {"event": "e", "user_id": "5", "timestamp": "2026-01-01T00:00:00Z"})
    first, second = heap.events.values()
    assert (first["identity"], first["event"], first["timestamp"]) == ("A", "e", "2025-10-09T08:53:20+00:00")
    assert first["properties"] == {"long": ("x" * 600 + "||" + "y" * 600)[:1024], "n": 1.5, "tags": "a||2"}
    assert second["timestamp"] == "2026-01-01T00:00:00Z"
    assert heap.users.keys() == {"A"}, "it was seen, and user 5 is anonymous"
    assert heap.duplicates == 1


async def test_properties_of_users_and_accounts_overwrite():
    async with HeapApi() as heap:
        await call(heap, "/api/add_user_properties", {"identity": "a", "properties": {"plan": "free", "email": "a@x"}})
        await call(heap, "/api/add_user_properties", {"users": [{"identity": "a", "properties": {"plan": "pro"}}]})
        await call(heap, "/api/add_account_properties", {"account_id": "x", "properties": {"size": 1}})
        await call(heap, "/api/add_account_properties", {"accounts": [{"account_id": "x", "properties": {"size": 2}}]})
    assert heap.users == {"a": {"plan": "pro", "email": "a@x"}}
    assert heap.accounts == {"x": {"size": 2}}


async def test_an_anonymous_user_is_identified_once_and_takes_its_events_along():
    now = 0.0
    async with HeapApi(clock=lambda: now) as heap:
        await call(heap, TRACK, {"event": "e", "user_id": "0"})
        for user_id in range(11):
            assert (await call(heap, "/api/v1/identify", {"identity": "a", "user_id": str(user_id)}))[0] == 200
        assert heap.identities.keys() == {str(number) for number in range(10)}, "ten in a month"
        await call(heap, "/api/v1/identify", {"identity": "b", "user_id": "0"})
        assert heap.identities["0"] == "a"
        assert [event["identity"] for event in heap.events.values()] == ["a"]
        now = 31 * 86_400.0
        await call(heap, "/api/v1/identify", {"identity": "a", "user_id": "10"})
        assert heap.identities["10"] == "a"


async def test_limits_are_of_a_moving_minute_and_by_identity():
    now = 0.0
    async with HeapApi(per_app=5, per_identity=3, clock=lambda: now) as heap:
        assert (await call(heap, TRACK, bulk(3)))[0] == 200
        assert (await call(heap, TRACK, bulk(1)))[0] == 429
        assert (await call(heap, TRACK, bulk(2, "b")))[0] == 200
        assert (await call(heap, TRACK, bulk(1, "c")))[0] == 429
        now = 60.0
        assert (await call(heap, TRACK, bulk(3)))[0] == 200
        assert (heap.minute.most, heap.minute.most_of_one) == (6, 4)
        heap.switches = heap.switches.replace(over_limit="drop")
        assert (await call(heap, TRACK, bulk(1)))[0] == 200
    assert len(heap.events) == 8


@pytest.mark.parametrize("path", [TRACK, "/api/add_user_properties"])
async def test_single_calls_are_limited_by_identity_in_half_a_minute(path):
    now = 0.0
    async with HeapApi(clock=lambda: now) as heap:
        item = {"event": "e", "identity": "a", "properties": {}}
        assert [(await call(heap, path, item))[0] for _ in range(31)] == [200] * 30 + [429]
        assert (await call(heap, path, item | {"identity": "b"}))[0] == 200
        now = 30.0
        assert (await call(heap, path, item))[0] == 200


@pytest.mark.parametrize(("way", "status", "kept"), [("accept", 200, 1), ("refuse", 400, 0), ("lose", 200, 0)])
async def test_data_of_the_wrong_region(way, status, kept):
    async with HeapApi(region="eu", wrong_region=way) as heap:
        assert (await call(heap, TRACK, bulk(1), Host="heapanalytics.com"))[0] == status
        assert len(heap.events) == kept
        assert (await call(heap, TRACK, bulk(1), Host="c.eu.heap-api.com"))[0] == 200
        assert len(heap.events) == kept + 1
