"""Heap's Segments Sync webhook, as relay's own source checks it."""

import json
from typing import Any

import pytest

from relay.api import Denied, Malformed, Request
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from relay.testing import Destination
from relay_plugins.heap_segments import HeapSegments

BIG = StandInSegment((1 << 62) + 1, "s", "in", "out")


def source(**settings: Any) -> HeapSegments:
    found = {"type": "heap_segments", "path": "/s", "secret": {"env": "SEGMENTS_SECRET"}} | settings
    return HeapSegments("s", HeapSegments.Settings.model_validate(found))


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_SECRET", "shh")


async def synced(hook: Destination, *members: set[str], segment: StandInSegment = BIG, **switches: Any) -> list[Any]:
    """The bodies of syncs of these memberships."""
    async with SegmentSync(hook.url, "shh", **switches) as sync:
        for users in members:
            await sync.sync(segment, users)
    return [json.loads(request.body) for request in hook.requests]


def changes(page: Any) -> tuple[list[str], list[str]]:
    return tuple([user["id"] for user in page["data"][what]] for what in ("add", "remove"))


@pytest.mark.parametrize(
    ("signature", "settings", "expected"),
    [
        ("good", {}, None),
        ("stale", {}, Denied),
        ("future", {}, Denied),
        ("forged", {}, Denied),
        ("malformed", {}, Malformed),
        ("missing", {}, (Denied, Malformed)),
    ],
)
async def test_signatures(signature, settings, expected):
    async with Destination() as hook:
        await synced(hook, {"anna"}, signature=signature)
    request = hook.requests[0]
    if expected is None:
        source().verify(Request(request.body, request.headers))
        return
    with pytest.raises(expected):
        source().verify(Request(request.body, request.headers))


async def test_a_signature_may_be_over_the_body_as_stringify_writes_it():
    async with Destination() as hook:
        small = StandInSegment(7, "s", "in", "out")  # JavaScript has no numbers as long as the other's id
        await synced(hook, {"grün"}, segment=small, signed="reserialized")
    request = hook.requests[0]
    source(signed="reserialized").verify(Request(request.body, request.headers))
    with pytest.raises(Denied):
        source().verify(Request(request.body, request.headers))


async def test_a_call_has_all_that_heap_documents():
    async with Destination() as hook:
        (call,) = await synced(hook, {"anna"})
    assert call.keys() == {"id_token", "action_type", "customer_config", "data"}
    assert call["customer_config"]["fields"][0]["field_type"] == "identity_mapping"
    assert call["data"]["segment"] == {"id": BIG.id, "name": "s"}
    assert call["data"]["sync_info"].keys() == {"page_number", "total_pages", "sync_task_id"}


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, [(["c", "d"], []), ([], ["a", "b"])]),
        ({"page": 3}, [(["c", "d"], ["a"]), ([], ["b"])]),
        ({"page": 3, "mixed": False}, [(["c", "d"], []), ([], ["a", "b"])]),
        ({"page": 4, "full": True}, [(["c", "d"], ["a", "b"])]),
        ({"lose_last_page": True}, [(["c", "d"], [])]),
        ({"repeat_pages": True}, [(["c", "d"], []), ([], ["a", "b"])] * 2),
    ],
)
async def test_pages(switches, expected):
    async with Destination() as hook:
        await synced(hook, {"a", "b"})
        before = len(hook.requests)
        async with SegmentSync(hook.url, "shh", **{"page": 2} | switches) as sync:
            sync._told[BIG.id] = {"a", "b"}
            await sync.sync(BIG, {"c", "d"})
        pages = [json.loads(request.body) for request in hook.requests[before:]]
    assert [changes(page) for page in pages] == expected
    assert len({page["data"]["sync_info"]["sync_task_id"] for page in pages}) == 1


async def test_members_are_told_again_only_with_a_switch():
    for full, told in ((False, [["a"], []]), (True, [["a"], ["a"]])):
        async with Destination() as hook:
            assert [changes(page)[0] for page in await synced(hook, {"a"}, {"a"}, full=full)] == told


async def test_pages_in_any_order_are_all_there():
    async with Destination() as hook:
        pages = await synced(hook, {f"{number:03}" for number in range(200)}, page=1, shuffle_pages=True)
    numbers = [page["data"]["sync_info"]["page_number"] for page in pages]
    assert numbers != sorted(numbers)
    assert sorted(numbers) == list(range(1, 201))


async def test_a_page_without_200_comes_again_and_later_with_the_next_sync():
    async with Destination(*[201] * 2, 500) as hook, SegmentSync(hook.url, "shh", tries=2, again=0) as sync:
        with pytest.raises(TimeoutError, match="in 2 tries"):
            await sync.sync(BIG, {"a"})
        assert await sync.sync(BIG, {"a", "b"}) == (2, 0)
    assert len(hook.requests) == 4


async def test_a_renamed_segment_a_sample_and_the_retired_drain():
    async with Destination() as hook, SegmentSync(hook.url, "shh") as sync:
        await sync.sync(BIG, {"a"})
        await sync.sync(StandInSegment(BIG.id, "new", "in"), {"a"})
        await sync.sample(BIG)
        await sync.drain(BIG)
        assert await sync.sync(BIG, {"a"}) == (1, 0)
    calls = [json.loads(request.body) for request in hook.requests]
    assert [call["data"]["segment"]["name"] for call in calls] == ["s", "new", "s", "s", "s"]
    assert [len(changes(call)[0]) for call in calls] == [1, 0, 2, 0, 1]
    assert calls[3]["action_type"] == "segment.users.drain"
    source().decode(Request(hook.requests[3].body))
