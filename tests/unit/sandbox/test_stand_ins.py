"""The stand-ins by themselves, as commands that others test against."""

import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import click
import pytest
from click.testing import CliRunner

from relay.cli.commands.sandbox.stand_ins import braze, heap
from relay.cli.main import relay
from relay.sandbox.shapes import make_event
from relay.testing import Destination
from tests.forks import Forks

KEYS = {"partner_api_key": "partner", "client_secret": "import", "cohort_id": "7"}


Started = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def started(relay_forks: Forks) -> Started:
    """Give the function that runs a stand-in and returns its URL."""

    @asynccontextmanager
    async def started(*arguments: str, token: str = "") -> AsyncIterator[str]:
        process = await asyncio.create_subprocess_exec(
            *(*relay_forks.command, "sandbox", *arguments, "--listen", "127.0.0.1:0"),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"RELAY_TOKEN": token},
        )
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            yield line.decode().split()[-1]
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 60) == 0

    return started


async def call(url: str, body: Any = None) -> tuple[int, Any]:
    method, data = ("GET", None) if body is None else ("POST", io.BytesIO(json.dumps(body).encode()))
    async with (
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http,
        http.request(method, url, data=data) as answer,
    ):
        text = await answer.text()
        return answer.status, await answer.json() if answer.content_type == "application/json" else text


async def test_braze_by_itself(started: Started) -> None:
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
        assert (await call(door + "audience?includes=n&excludes=8"))[1] == ["crm:17", "user-1"]
        assert (await call(door + "books"))[1]["ignored_ids"] == 1

        await call(door + "faults", [{"status": 500, "applied": True}, 423])
        change = KEYS | {"cohort_changes": [{"user_ids": ["user-1"], "should_remove": True}]}
        assert [(await call(users, change))[0] for _ in range(3)] == [500, 423, 200]
        assert (await call(door + "faults", {"status": 500}))[0] == 400
        assert (await call(door + "campaign", {}))[0] == 404, "it has no Current"

        assert (await call(door + "switches", {"hourly": 1}))[1]["hourly"] == 1
        assert (await call(users, change))[0] == 429
        await call(door + "clock", {"forward": 3600})
        assert (await call(users, change))[0] == 200
        assert await call(door + "switches", {"hourly": -1}) == (
            400,
            {"error": "hourly: Input should be greater than or equal to 0"},
        )
        assert await call(door + "switches", {"daily": 1}) == (400, {"error": "there is no switch daily"})


async def test_heap_by_itself_with_segments_that_sync_back(started: Started) -> None:
    async with Destination() as hook, started("heap", "--segments-url", hook.url, "--full") as url:
        door = url + "/_sandbox/"
        await call(door + "capture", {"event": "in", "identities": ["anna", "bert"]})
        bulk = {"app_id": "1", "events": [{"event": "out", "identity": "bert", "idempotency_key": "k"}] * 2}
        assert (await call(url + "/api/track", bulk))[0] == 200
        assert (await call(door + "events?identity=bert"))[1][-1]["event"] == "out"
        assert (await call(door + "books"))[1]["duplicates"] == 1
        sent = [{"id": n, "event_type": "sent", "time": 1, "user": {"external_user_id": n}} for n in ("", "a", "a")]
        assert (await call(url + "/webhook", {"events": sent}))[0] == 200
        books = (await call(door + "books"))[1]
        assert (books["events"], books["duplicates"], books["without_identity"]) == (4, 2, 1)
        segment = {"id": 5, "name": "s", "did": "in", "did_not": "out"}
        assert (await call(door + "segments", segment))[1] == {"members": 1}
        assert (await call(door + "members?segment=5"))[1] == ["anna"]
        await call(door + "clock", {"forward": 4 * 3600})
        await hook.requested(1)
        assert hook.requests[0].headers["Heap-Hash"].startswith("ts:")
        assert await call(door + "sync", {}) == (200, {"s": {"add": 1, "remove": 0}})
        assert (await call(door + "drain", {"segment": 5}))[0] == 200
        assert (await call(door + "segments", {"id": 5})) == (400, {"error": "not there: 'name'"})
        assert (await call(door + "sample", {"segment": 6}))[0] == 400


async def test_a_campaign_goes_by_the_current_of_one_to_the_webhook_of_the_other(started: Started) -> None:
    email = "users.messages.email.Send"
    async with (
        started("heap", "--webhook-token", "t0k") as heap_url,
        started("braze", "--send-to", heap_url + "/webhook", "--profiles", "3", token="t0k") as url,
    ):
        door, users = url + "/_sandbox/", f"{url}/partners/heap/cohorts/users"
        await call(users, KEYS | {"cohort_changes": [{"user_ids": ["user-1", "user-2"]}]})
        await call(users, KEYS | {"cohort_id": "8", "cohort_changes": [{"user_ids": ["user-2"]}]})
        assert await call(door + "probe", {}) == (200, {"answers": [200, 200]})
        assert await call(door + "probe", {"token": "no"}) == (200, {"answers": [401, 401]})
        sent = await call(door + "campaign", {"type": email, "includes": ["7"], "excludes": ["8"]})
        assert sent == (200, {"sent": 1})
        await call(door + "send", {"type": email, "user": {"external_user_id": "carl"}, "odd": "late"})
        await call(door + "test_events", {})
        async with asyncio.timeout(60):
            while (await call(door + "flush", {}))[1]["counts"]["accepted"] < 102:
                await asyncio.sleep(0.05)
        for user, count in (("user-1", 1), ("user-2", 0), ("carl", 1)):
            events = (await call(f"{heap_url}/_sandbox/events?identity={user}"))[1]
            assert [event["event"] for event in events] == [email] * count
        assert await call(heap_url + "/_sandbox/sync", {}) == (400, {"error": "start it with --segments-url"})
        await call(heap_url + "/_sandbox/faults", [401])
        await call(door + "send", {"type": email})
        async with asyncio.timeout(60):
            while not (state := (await call(door + "flush", {}))[1])["stopped"]:
                await asyncio.sleep(0.05)
        assert state["stopped"] == "HTTP 401"
        assert (await call(door + "enable", {}))[1]["stopped"] is None


def test_made_up_events_are_of_users_whom_it_has() -> None:
    (profiles,) = (option.default for option in braze.params if option.name == "profiles")
    events = [make_event("users.messages.email.Send", Random(number), 0.0) for number in range(1000)]
    users = {event["user"].get("external_user_id") for event in events}
    assert users - {None} <= {f"user-{number}" for number in range(profiles)}
    assert len(users) > 100


@pytest.mark.parametrize("command", [braze, heap])
async def test_help_names_every_door_and_only_those_there_are(started: Started, command: click.Command) -> None:
    assert command.callback is not None
    told = set(re.findall(r"/_sandbox/(\w+)", command.callback.__doc__ or ""))
    name = command.name or ""
    more = {"braze": "--send-to", "heap": "--segments-url"}[name]
    async with started(name, more, "http://127.0.0.1:9/") as url:
        answers = {door: [(await call(f"{url}/_sandbox/{door}", body))[0] for body in (None, {})] for door in told}
        assert [door for door, statuses in answers.items() if set(statuses) <= {404, 405}] == []
        assert told >= {"switches", "faults", "clock", "books"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["braze", "--send-to", "http://127.0.0.1:9", "--events", "pigeons"], "no event type is pigeons"),
        (["braze", "--listen", "nowhere"], "is not HOST:PORT"),
        (["braze", "--repeat", "2"], "0<=x<=1"),
        (["heap", "--over-limit", "laugh"], "'refuse', 'drop'"),
    ],
)
def test_wrong_options_are_explained(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(relay, ["sandbox", *arguments])
    assert result.exit_code == 2
    assert said in result.output
