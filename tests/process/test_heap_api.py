"""Heap's server-side API at a real daemon: its limits, what it refuses, and every type of event."""

import asyncio
import random
import time
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.sandbox.heap.track import HeapApi
from relay.sandbox.shapes import list_types, make_event
from tests.conftest import LONG
from tests.daemon import Daemon

HOT, OTHERS = 1100, 150


def body_of(users: list[str], start: int, **properties: Any) -> bytes:
    events = [
        {
            "event_type": "users.behaviors.CustomEvent",
            "id": f"heap-api-{start + number}",
            "time": 1_790_000_000 + start + number,
            "user": {"external_user_id": user},
            "properties": {"name": "tapped"} | properties,
        }
        for number, user in enumerate(users)
    ]
    return orjson.dumps({"events": events})


def configure(daemon: Daemon, heap: HeapApi, more: str = "") -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure(
        "20-heap",
        f'[connector.heap]\ntype="heap"\nmode="api"\napp_id="1"\nendpoint="{heap.url}"\n'
        f'retry={{first="10ms",max="100ms"}}\n{more}',
    )


async def test_one_hot_identity_does_not_hold_up_the_rest(daemon: Daemon) -> None:
    async with HeapApi() as heap:
        configure(daemon, heap, "rate=0")
        await daemon.start()
        assert (await daemon.post(body_of(["hot"] * HOT, 0)))[0] == 202
        assert (await daemon.post(body_of([f"user-{n}" for n in range(OTHERS)], HOT)))[0] == 202
        books = await daemon.until(
            lambda: daemon.ledger()["heap"], lambda books: books.counts.delivered == 1000 + OTHERS
        )
        assert books.pending == HOT - 1000
        assert heap.minute.most_of_one == 1000
        assert heap.statuses.keys() == {200}
        assert len(heap.events) == 1000 + OTHERS
        assert await daemon.stop() == 0


async def test_an_app_unknown_to_heap_is_unauthorized_and_says_what_to_check(daemon: Daemon) -> None:
    async with HeapApi("2") as heap:
        configure(daemon, heap)
        await daemon.start()
        assert (await daemon.post(body_of(["anna", "bert"], 0)))[0] == 202
        command = ["status", "--state", str(daemon.state)]
        async with asyncio.timeout(20):
            while "app_id" not in (said := (await asyncio.to_thread(CliRunner().invoke, cli, command)).stdout):
                await asyncio.sleep(0.1)
        assert "heap: unauthorized, the destination does not accept relay since" in said
        assert "Z: Heap does not take app_id 1 (HTTP 400: postBody.app_id is not known)" in said
        assert "mend that at the destination, or the address and credentials in 20-heap.toml" in said
        assert daemon.ledger()["heap"].counts.parked == 0
        assert await daemon.stop() == 0


async def test_every_type_of_event_is_good_enough_for_heap(daemon: Daemon) -> None:
    rng = random.Random(4)
    events = [make_event(kind, rng, time.time()) for kind in list_types()]
    left_out = [event for event in events if event["event_type"] in ("users.UserDeleteRequest", "users.UserOrphan")]
    meant = [event for event in events if event not in left_out]
    known = [event for event in meant if event["user"].get("external_user_id")]
    async with HeapApi() as heap:
        configure(daemon, heap)
        heap.faults.extend([500, 429])
        await daemon.start()
        assert (await daemon.post(orjson.dumps({"events": events})))[0] == 202
        books = await daemon.settled("heap", len(events))
        assert (books.counts.parked, books.counts.filtered) == (len(meant) - len(known), len(left_out))
        assert heap.statuses.keys() == {200, 429, 500}
        assert heap.events.keys() == {event["id"] for event in known if event["event_type"] != "users.profile.Update"}
        assert await daemon.stop() == 0


async def test_events_without_an_identity_can_be_left_out_and_are_told_apart(daemon: Daemon) -> None:
    async with HeapApi() as heap:
        configure(daemon, heap, 'without_identity="skip"')
        await daemon.start()
        assert (await daemon.post(body_of(["", "anna", ""], 0)))[0] == 202
        books = await daemon.settled("heap", 3)
        assert (books.counts.delivered, books.counts.filtered, books.counts.parked) == (1, 2, 0)
        command = ["trace", "heap-api-0", "--state", str(daemon.state), "--conf", str(daemon.conf)]
        out = CliRunner().invoke(cli, command).stdout
        assert "filtered by the connector: has no user.external_user_id" in out
        assert await daemon.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.skipif(not LONG, reason="takes more than a minute: make faults")
async def test_no_minute_has_more_events_than_heap_takes(daemon: Daemon) -> None:
    async with HeapApi() as heap:
        configure(daemon, heap, "concurrency=8")
        await daemon.start()
        assert (await daemon.post(body_of(["hot"] * 3000, 0)))[0] == 202
        for start in range(3000, 19_000, 500):
            users = [f"user-{n}" for n in range(start, start + 500)]
            assert (await daemon.post(body_of(users, start)))[0] == 202
        others = [f"heap-api-{number}" for number in range(3000, 19_000)]
        await daemon.until(lambda: heap.events.keys() >= set(others), bool, within=120)
        assert 10_000 < heap.minute.most <= 15_000
        assert heap.minute.most_of_one == 1000
        assert heap.statuses.keys() == {200}
        assert daemon.ledger()["heap"].pending > 0, "the hot one still waits, and held up nobody"
        assert await daemon.stop() == 0
