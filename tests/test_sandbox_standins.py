"""The stand-ins by themselves, as commands that others test against."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from relay.sandbox.track import HeapApi
from relay.testing import Destination

KEYS = {"partner_api_key": "partner", "client_secret": "import", "cohort_id": "7"}


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "sandbox", *arguments, "--listen", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        yield line.decode().split()[-1]
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def call(url: str, body: Any = None) -> tuple[int, Any]:
    method, data = ("GET", None) if body is None else ("POST", io.BytesIO(json.dumps(body).encode()))
    async with (
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http,
        http.request(method, url, data=data) as answer,
    ):
        text = await answer.text()
        return answer.status, await answer.json() if answer.content_type == "application/json" else text


async def test_braze_by_itself() -> None:
    async with started("braze", "--profiles", "3", "--success", "200") as url:
        door = url + "/_sandbox/"
        await call(door + "profiles", [{"aliases": {"crm": "17"}}, {"devices": ["tablet"]}])
        assert (await call(f"{url}/partners/heap/cohorts", KEYS | {"name": "n", "created_at": "2026-01-01"}))[0] == 200
        changes = [
            {"user_ids": ["user-1", "user-2", "nobody"]},
            {"aliases": [{"alias_label": "crm", "alias_name": "17"}]},
        ]
        users = f"{url}/partners/heap/cohorts/users"
        assert await call(users, KEYS | {"cohort_changes": changes}) == (200, {"message": "success"})
        assert (await call(users, KEYS | {"cohort_id": "8", "cohort_changes": [{"user_ids": ["user-2"]}]}))[0] == 200
        assert (await call(door + "members?cohort=7"))[1] == ["crm:17", "user-1", "user-2"]
        assert (await call(door + "audience?includes=7&excludes=8"))[1] == ["crm:17", "user-1"]
        assert (await call(door + "books"))[1]["ignored_ids"] == 1

        await call(door + "faults", [{"status": 500, "applied": True}, {"status": 423}])
        change = KEYS | {"cohort_changes": [{"user_ids": ["user-1"], "should_remove": True}]}
        assert [(await call(users, change))[0] for _ in range(3)] == [500, 423, 200]
        for wrong, status in (
            ({"client_secret": "no"}, 401),
            ({"cohort_id": 7}, 400),
            ({"cohort_changes": "all"}, 400),
            ({"cohort_changes": [{"user_ids": ["x"] * 1001}]}, 400),
            ({"cohort_changes": [{"user_ids": ["x" * (5 << 20)]}]}, 413),
        ):
            assert (await call(users, change | wrong))[0] == status
        assert (await call(door + "faults", {"status": 500}))[0] == 400


async def test_braze_counts_requests_by_the_hours_of_its_clock() -> None:
    async with started("braze", "--hourly", "1", "--speed", "36000") as url:
        async with asyncio.timeout(20):
            seen = set()
            while seen != {201, 429}:
                seen.add((await call(f"{url}/partners/heap/cohorts/users", KEYS | {"cohort_changes": []}))[0])


async def test_heap_by_itself_with_segments_that_sync_back() -> None:
    async with Destination() as hook, started("heap", "--segments-url", hook.url, "--speed", "1e6") as url:
        door = url + "/_sandbox/"
        await call(door + "capture", {"event": "in", "identities": ["anna", "bert"]})
        bulk = {"app_id": "1", "events": [{"event": "out", "identity": "bert", "idempotency_key": "k"}] * 2}
        assert (await call(url + "/api/track", bulk))[0] == 200
        assert (await call(door + "events?identity=bert"))[1][-1]["event"] == "out"
        assert (await call(door + "books"))[1]["duplicates"] == 1
        segment = {"id": 5, "name": "s", "did": "in", "did_not": "out"}
        assert (await call(door + "segments", segment))[1] == {"members": 1}
        await hook.requested(2)
        assert hook.requests[0].headers["Heap-Hash"].startswith("ts:")
        assert (await call(door + "sync", {}))[0] == 200
        assert (await call(door + "segments", {"id": 5}))[0] == 400


async def test_heap_says_which_item_it_refuses() -> None:
    async with HeapApi() as heap:
        for item, said in (
            ({"identity": "a"}, "postBody.events[1].event should be"),
            ({"event": "e"}, "postBody.events[1].identity or user_id"),
            ({"event": "e", "identity": "a", "properties": {"Id": 1}}, "properties.Id is not allowed"),
            ({"event": "e", "identity": "a", "properties": {"x": None}}, "properties.x should be string or number"),
            ({"event": "e", "identity": "a", "properties": {"x": "x" * 1024}}, "properties.x is too long"),
            ({"event": "e", "identity": "a" * 256}, "identity should be"),
        ):
            events = [{"event": "e", "identity": "a"}, item]
            status, text = await call(heap.url + "/api/track", {"app_id": "1", "events": events})
            assert (status, said in text) == (400, True), text
        assert (await call(heap.url + "/api/track", {"app_id": "2", "event": "e", "identity": "a"}))[0] == 400
        assert heap.events == {}
        user = {"app_id": "1", "identity": "a", "properties": {"plan": "pro"}}
        assert (await call(heap.url + "/api/add_user_properties", user))[0] == 200
        assert heap.users == {"a": {"plan": "pro"}}


async def test_beyond_its_limits_heap_answers_429() -> None:
    now = 0.0
    async with HeapApi(per_app=3, per_identity=2, clock=lambda: now) as heap:
        bulk = {"app_id": "1", "events": [{"event": "e", "identity": "a"}] * 2}
        assert (await call(heap.url + "/api/track", bulk))[0] == 200
        now = 61.0
        assert (await call(heap.url + "/api/track", bulk))[0] == 200
        now = 62.0
        assert (await call(heap.url + "/api/track", bulk))[0] == 429


async def test_a_webhook_that_takes_nothing_is_told_of() -> None:
    async with started("heap") as url:
        assert (await call(url + "/_sandbox/sync", {}))[0] == 400
