"""Heap's Segments Sync webhook at a real daemon."""

import asyncio
import base64
import hmac
import time
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.testing import Destination, make_event
from tests.daemon import Daemon

SECRET = "whispered"


def body_of(task: str, users: int) -> bytes:
    data = {
        "segment": {"id": 42, "name": "Lost carts"},
        "sync_info": {"page_number": 1, "total_pages": 1, "sync_task_id": task},
        "add": [{"id": f"user-{n}"} for n in range(users)],
        "remove": [],
    }
    return orjson.dumps({"action_type": "segment.users.sync", "data": data})


def signed(body: bytes, secret: str = SECRET, *, age: float = 0.0) -> dict[str, str]:
    stamp = round((time.time() - age) * 1000)
    digest = hmac.digest(secret.encode(), str(stamp).encode() + body, "sha256")
    return {"Heap_Hash": f"ts:{stamp},hmac:{base64.b64encode(digest).decode()}"}


async def test_a_signed_page_is_delivered_once_and_bad_pages_are_refused(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    async with Destination() as hook:
        daemon.configure(
            "10-source",
            f'[source.heap]\ntype="heap_segments"\npath="/segments"\nsecret={{file="{tmp_path}/secret"}}',
        )
        daemon.configure(
            "20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nbody="single"\nevents=["cohort.*"]'
        )
        await daemon.start()
        page = body_of("t1", 1500)
        assert (await daemon.post(page, "/segments", **signed(page)))[0] == 200
        assert (await daemon.post(page, "/segments", **signed(page)))[1]["duplicates"] == 2
        assert (await daemon.post(page, "/segments", **signed(page, "guessed")))[0] == 401
        assert (await daemon.post(page + b" ", "/segments", **signed(page)))[0] == 401
        assert (await daemon.post(page, "/segments", **signed(page, age=70)))[0] == 401
        assert (await daemon.post(page, "/segments", **signed(page, age=-10)))[0] == 401
        assert (await daemon.post(page, "/segments"))[0] == 401
        for malformed in ("ts:soon", "ts:1,hmac:!", f"ts:{'9' * 500},hmac:aGk=", ""):
            assert (await daemon.post(page, "/segments", Heap_Hash=malformed))[0] == 400
        await daemon.settled("hook", 2)
        changes = [orjson.loads(request.body) for request in hook.requests]
        assert sum(len(change["add"]) for change in changes) == 1500
        assert {change["cohort"]["name"] for change in changes} == {"Lost carts"}
        assert await daemon.stop() == 0


async def test_changes_of_a_segment_are_only_for_connectors_that_name_them(daemon: Daemon, tmp_path: Path) -> None:
    """Looked at as well: `relay trace`, and what a replay counts and sends."""
    (tmp_path / "secret").write_text(SECRET)
    async with Destination() as everything, Destination() as changes:
        daemon.configure(
            "10-source",
            f'[source.heap]\ntype="heap_segments"\npath="/segments"\nsecret={{file="{tmp_path}/secret"}}\n'
            '[source.braze]\ntype="currents"\npath="/currents"',
        )
        daemon.configure(
            "20-connectors",
            f'[connector.all]\ntype="http"\nurl="{everything.url}"\n'
            f'[connector.changes]\ntype="http"\nurl="{changes.url}"\nevents=["*", "cohort.Change"]\n'
            f'[connector.heap]\ntype="heap"\nendpoint="{everything.url}heap"\nevents=["!email"]\n'
            f'[connector.archive]\ntype="file"\npath="{tmp_path}/archive.ndjson"',
        )
        await daemon.start()
        page, mine = body_of("t1", 3), make_event("shop.Order")
        assert (await daemon.post(page, "/segments", **signed(page)))[0] == 200
        assert (await daemon.post(b'{"events":[%s]}' % mine))[0] == 202
        for connector in ("all", "changes", "heap", "archive"):
            books = await daemon.settled(connector, 2)
            taken = 2 if connector == "changes" else 1
            assert (books.counts.delivered, books.counts.unselected) == (taken, 2 - taken)
        assert {event["event_type"] for event in everything.events()} == {"shop.Order"}
        assert {event["event_type"] for event in changes.events()} == {"shop.Order", "cohort.Change"}
        assert (tmp_path / "archive.ndjson").read_bytes() == mine + b"\n"
        change = next(event for event in changes.events() if event["event_type"] == "cohort.Change")["id"]
        command = ["--state", str(daemon.state), "--conf", str(daemon.conf)]
        told = (await asyncio.to_thread(CliRunner().invoke, cli, ["trace", change, *command])).output
        assert "!cohort.Change" in told
        replay = ["replay", "--connector", "all", "--dry-run", *command]
        assert "of which all gets 1" in (await asyncio.to_thread(CliRunner().invoke, cli, replay)).output
        replay = ["replay", "--connector", "changes", "--yes", *command]
        assert "done; delivered 2" in (await asyncio.to_thread(CliRunner().invoke, cli, replay)).output
        assert await daemon.stop() == 0


def page(add: list[str], remove: list[str], number: int = 1, pages: int = 5) -> bytes:
    """As in Heap's published examples, in which two pages share task and number."""
    users = {"add": [{"id": one} for one in add], "remove": [{"id": one} for one in remove]}
    info = {"page_number": number, "total_pages": pages, "sync_task_id": "t-1"}
    data = {"segment": {"id": 7, "name": "Carts"}, "sync_info": info, **users}
    return orjson.dumps({"action_type": "segment.users.sync", "data": data})


async def test_an_incomplete_sync_shows_in_status_and_metrics_after_a_restart(daemon: Daemon, tmp_path: Path) -> None:
    daemon.configure("00-workers", "[runtime]\nworkers=2")
    daemon.configure("10-all", '[source.heap]\ntype="heap_segments"\npath="/segments"\nincomplete_after="1m"')
    await daemon.start()
    for added, removed in (["a"], []), ([], ["a"]):
        assert (await daemon.post(page(added, removed), "/segments"))[1]["accepted"] == 1
        assert (await daemon.post(page(added, removed), "/segments"))[1]["duplicates"] == 1
    for number in (2, 4, 5):
        await daemon.post(page(["b"], [], number), "/segments")
    other = orjson.loads(page(["c"], []))
    other["data"]["sync_info"] = None
    assert (await daemon.post(orjson.dumps(other), "/segments"))[1]["accepted"] == 1
    (said,) = await daemon.until(lambda: daemon.logged("segment sync was incomplete"), bool)
    assert (said["received"], said["pages"], said["missing"]) == (4, 5, [3])
    await daemon.stop()
    await daemon.start()
    state = ["--state", str(daemon.state)]
    status = await asyncio.to_thread(CliRunner().invoke, cli, ["status", *state])
    assert "heap: " in status.output
    assert "segment 7 has 4 of 5 pages of sync t-1, not 3" in status.output
    assert status.exit_code == 1
    told = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--json", *state])
    assert [one["incomplete"] for one in orjson.loads(told.output)["sources"]] == [1]
    await daemon.post(page(["b"], [], 3), "/segments")
    status = await asyncio.to_thread(CliRunner().invoke, cli, ["status", *state])
    assert (status.exit_code, "incomplete" in status.output) == (0, False)
    assert await daemon.stop() == 0


async def test_what_is_made_of_a_page_counts_against_the_memory_for_bodies(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.heap]\ntype="heap_segments"\npath="/segments"')
    daemon.configure("20-ingest", '[ingest]\nmax_body="1MiB"\nmax_in_flight="1MiB"')
    await daemon.start()
    small, large = body_of("t1", 20_000), body_of("t2", 40_000)
    assert len(large) < 1 << 20
    assert (await daemon.post(small, "/segments"))[0] == 200
    assert (await daemon.post(large, "/segments"))[0] == 413
    assert (await daemon.post(small.replace(b"t1", b"t3"), "/segments"))[0] == 200, "what was booked is given back"
    assert await daemon.stop() == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_users_who_come_back_by_the_same_page_are_added_again(
    daemon: Daemon, tmp_path: Path, workers: int
) -> None:
    """Looked at as well: another number of the task, a page in several parts, a kill in between."""
    daemon.configure("00-workers", f"[runtime]\nworkers={workers}")
    daemon.configure("10-source", '[source.heap]\ntype="heap_segments"\npath="/segments"')
    many = [f"user-{number}" for number in range(1500)]
    came, went, other = page(many, [], pages=1), page([], ["user-1"], pages=1), page(["b"], [], 2, pages=2)
    await daemon.start()

    async def duplicates(body: bytes) -> int:
        return int((await daemon.post(body, "/segments"))[1]["duplicates"])

    assert [await duplicates(one) for one in (came, other, came, went, went)] == [0, 0, 2, 0, 1]
    await daemon.kill()
    await daemon.start()
    assert [await duplicates(one) for one in (went, came, other, came, went)] == [1, 0, 1, 2, 0]
    assert await daemon.stop() == 0
