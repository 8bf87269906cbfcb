"""Alerts of a real daemon: what people get to read, whatever becomes of relay or of the way to them."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from relay.cli.commands.doctor.alerts import check_sending
from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon
from tests.process.test_admin import relay, seen

pytestmark = pytest.mark.slow

SECRET = "xoxb-0123456789"
FLOW = """
[source.braze]
type = "currents"
path = "/currents"

[source.shop]
type = "currents"
path = "/shop"
tokens = [{ env = "SHOP" }]

[journal]
max_size = "16MiB"

[connector.good]
type = "http"
url = "%s"

[connector.heap]
type = "http"
url = "http://127.0.0.1:1/"

[connector.archive]
type = "file"
path = "/dev/full/archive.ndjson"
"""
ALERT = """
[alert.ops]
type = "webhook"
url = { env = "HOOK" }
after = "0s"
timeout = "60s"
"""


def messages(destination: Destination) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in destination.requests]


@pytest.mark.long  # quicker: test_shared_partitions, and tests/unit/alerts
async def test_four_troubles_are_one_message_that_a_kill_repeats_with_its_id(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Destination() as good, Destination() as ops:
        monkeypatch.setenv("SHOP", "wanted")
        monkeypatch.setenv("HOOK", f"{ops.url}services/{SECRET}")
        daemon.configure("20-flow", FLOW % good.url)
        await daemon.start()
        assert await daemon.stop() == 0
        refused = time.time() - 86400
        with closing(sqlite3.connect(daemon.state / "relay.db")) as db, db:  # as a day of refusals leaves it
            values = ("shop", 0, refused, refused + 3600, 401, "wrong bearer token", refused + 5 * 86400)
            db.execute("REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        await daemon.start()
        for _ in range(13):
            event = make_event(filling="x" * (1 << 20))
            assert (await daemon.post(event))[0] == 202
        good_before = await daemon.until(lambda: len(good.bodies()), lambda number: number == 13)
        wrong = {"heap", "archive", "shop", "journal"}
        await daemon.until(lambda: {one for one in wrong if f"{one}: " in relay(daemon, "status")[1]}, wrong.__eq__)

        ops.behaviour = Answer(hang=True)
        daemon.configure("80-alerts", ALERT)
        assert "alert ops: added" in relay(daemon, "reload")[1]
        await ops.requested(1)
        (first,) = messages(ops)
        named = {f"{one['subject']} {one['kind']}" for one in first["alarms"]}
        assert named - {"connector archive failing", "connector archive broken"} == {
            "connector heap failing",
            "source shop source_refusing",
            "journal journal_filling",
        }
        assert len(named) == 4
        (heap,) = [one for one in first["alarms"] if one["subject"] == "connector heap"]
        assert heap["facts"]["pending"] == 13
        assert heap["facts"]["event"]["type"] == "users.messages.email.Open"
        assert "127.0.0.1:1: Connection refused" in heap["sentence"]
        assert "xxxx" not in json.dumps(first)
        assert first["text"].count("Braze disables the Current at") == 1

        assert (await daemon.post(make_event()))[0] == 202  # the flow knows nothing of it
        await daemon.until(lambda: len(good.bodies()), lambda number: number == good_before + 1)
        await daemon.kill()
        ops.behaviour = 200
        await daemon.start()
        await ops.requested(2)
        await daemon.until(lambda: seen(daemon).alerts[0], lambda alert: alert.sent == 1)
        assert (await asyncio.to_thread(relay, daemon, "alerts", "test", "ops"))[0] == 0
        _, again, test = messages(ops)
        assert again == first
        assert (test["test"], test["alarms"][0]["kind"]) == (True, "test")
        code, listed = relay(daemon, "alerts", "list")
        assert (code, "ops has told: connector heap: failing" in listed) == (0, True)
        await daemon.until(
            lambda: relay(daemon, "alerts", "show")[1], lambda told: "connector heap: failing, since" in told
        )
        assert await daemon.stop() == 0
    assert len(ops.requests) == 3
    assert SECRET not in "".join([*daemon.stderr, listed])


@pytest.mark.long  # quicker: the first test, and tests/unit/workers
async def test_the_supervisor_of_workers_tells_what_begins_and_what_is_over(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Destination(503) as hook, Destination(500, 500) as ops:
        hook.behaviour = 503
        monkeypatch.setenv("HOOK", f"{ops.url}services/{SECRET}")
        daemon.configure(
            "20-flow", '[runtime]\nname = "east"\nworkers = 2\n[source.s]\ntype="currents"\npath="/currents"'
        )
        retry = 'retry = { first = "100ms", max = "200ms" }'
        daemon.configure("30-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\n{retry}')
        daemon.configure("80-alerts", ALERT)
        await daemon.start()
        assert (await daemon.post(make_event()))[0] == 202
        await ops.requested(3)
        assert [one["title"].partition(": ")[2] for one in messages(ops)] == ["connector hook: failing"] * 3
        assert len({one["id"] for one in messages(ops)}) == 1
        assert messages(ops)[0]["title"].startswith("east on ")
        hook.behaviour = 200
        await ops.requested(4)
        assert messages(ops)[3]["title"].endswith("connector hook: no longer failing")
        assert "it lasted for" in messages(ops)[3]["text"]
        ops.behaviour = Answer(status=500, body=b"no " + SECRET.encode())
        code, told = await asyncio.to_thread(relay, daemon, "alerts", "test", "ops")
        assert (code, told) == (1, "not sent: HTTP 500: no ...\n")
        code, screen = relay(daemon, "status")
        assert (code, "alert ops: sends nothing since" in screen) == (1, True)
        code, listed = relay(daemon, "alerts", "list")
        assert (code, "not sent: HTTP 500: no ..." in listed) == (1, True)
        config = SimpleNamespace(alerts={"ops": None, "new": None})
        it: Any = SimpleNamespace(running=seen(daemon), config=config)
        ops_found, new_found = check_sending(it)  # for `relay doctor`
        assert (ops_found.level, new_found.level) == ("problem", "ok")
        assert "HTTP 500: no ..." in ops_found.said
        (daemon.conf / "80-alerts.toml").unlink()
        assert "alert ops: removed" in relay(daemon, "reload")[1]
        assert relay(daemon, "alerts", "list") == (0, "no [alert.NAME] is configured\n")
        assert await daemon.stop() == 0
    assert SECRET not in "".join([*daemon.stderr, told])
