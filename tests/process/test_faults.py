"""kill -9, and destinations that hang or die: nothing accepted is lost, duplicates stay within the window."""

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import orjson
import pytest

from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon

WINDOW = 400
ROUNDS = int(os.environ.get("RELAY_KILL_ROUNDS", "3"))
CUT_SHORT = "deliveries under way are cut short and made again after the next start"
TABLES = """
[source.braze]
type = "currents"
path = "/currents"

[connector.hook]
type = "http"
url = "%s"
window = %d
batch = { events = 50 }

[connector.file]
type = "file"
path = "out.ndjson"
events = ["email"]
window = %d
batch = { events = 50, age = "1ms" }
"""
TYPES = ["users.messages.email.Open", "users.behaviors.Purchase"]


async def flood(daemon: Daemon, acknowledged: list[bytes], chance: random.Random) -> None:
    """Post batches until the daemon is gone; remember what was answered with 2xx."""
    async with aiohttp.ClientSession() as session:
        while True:
            events = [make_event(chance.choice(TYPES)) for _ in range(chance.randint(1, 40))]
            try:
                async with session.post(
                    daemon.url + "/currents", data=b'{"events":[%s]}' % b",".join(events)
                ) as answer:
                    if answer.status == 202:
                        acknowledged += events
            except aiohttp.ClientError:
                return


def ids(bodies: list[bytes]) -> Counter[str]:
    return Counter(orjson.loads(body)["id"] for body in bodies)


@pytest.mark.promise(1)
@pytest.mark.slow
@pytest.mark.timeout(360)
async def test_kill_9_under_load_loses_nothing_that_was_acknowledged(daemon: Daemon) -> None:
    chance = random.Random(7)
    acknowledged: list[bytes] = []
    async with Destination() as hook:
        daemon.configure("10-all", TABLES % (hook.url, WINDOW, WINDOW))
        for _ in range(ROUNDS):
            await daemon.start()
            async with asyncio.TaskGroup() as group:
                for sender in range(4):
                    group.create_task(flood(daemon, acknowledged, chance), name=f"sender {sender}")
                await asyncio.sleep(chance.uniform(0.05, 0.6))
                await daemon.kill()
        await daemon.start()
        head = daemon.ledger()["hook"].accepted
        for connector in ("hook", "file"):
            await daemon.settled(connector, head)
        assert await daemon.stop() == 0

        sent, in_file = ids(acknowledged), ids((daemon.state / "out.ndjson").read_bytes().splitlines())
        at_hook = ids(hook.bodies())
        emails = ids([body for body in acknowledged if b"email" in body])
        assert len(sent) > ROUNDS * 40
        assert not sent.keys() - at_hook.keys()
        assert not emails.keys() - in_file.keys()
        for arrived in (at_hook, in_file):
            assert arrived.total() - len(arrived) <= ROUNDS * WINDOW
            assert max(arrived.values()) <= ROUNDS + 1  # a relay may die before its cursor is on disk, each time


@pytest.mark.promise(3)
async def test_a_hanging_destination_blocks_no_other_and_gets_everything_later(daemon: Daemon) -> None:
    events = [make_event(number=number) for number in range(30_000)]
    body = [b'{"events":[' + b",".join(events[at : at + 500]) + b"]}" for at in range(0, len(events), 500)]
    async with Destination() as hanging, Destination() as well:
        hanging.behaviour = Answer(hang=True, status=503)
        daemon.configure("10-all", TABLES % (hanging.url, 10_000, 10_000))
        daemon.configure("20-well", f'[connector.well]\ntype="http"\nurl="{well.url}"')
        daemon.configure("30-journal", '[journal]\nmemory = "1MiB"')
        await daemon.start()
        for one in body[:20]:
            assert (await daemon.post(one))[0] == 202
        await daemon.settled("well", 10_000)
        memory = daemon.memory_kib()
        for one in body[20:]:
            assert (await daemon.post(one))[0] == 202
        for connector in ("well", "file"):
            await daemon.settled(connector, len(events))
        assert daemon.memory_kib() - memory < 25 * 1024
        assert daemon.ledger()["hook"].pending == len(events)
        assert len(hanging.requests) <= 4

        hanging.behaviour = 200
        hanging.release()
        await daemon.settled("hook", len(events))
        assert await daemon.stop() == 0
        assert ids(hanging.bodies()) == ids(well.bodies()) == ids(events)


@pytest.mark.promise(6)
async def test_sigterm_under_load_stops_in_time_without_losses_or_duplicates(daemon: Daemon) -> None:
    acknowledged: list[bytes] = []
    async with Destination() as hook:
        hook.behaviour = Answer(delay=0.02)
        daemon.configure("10-all", TABLES % (hook.url, WINDOW, WINDOW))
        for _ in range(3):
            await daemon.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(flood(daemon, acknowledged, random.Random(1)), name="sender")
                await hook.requested(len(hook.requests) + 3)
                assert await daemon.stop() == 0
        assert not daemon.logged(CUT_SHORT)
        await daemon.start()
        await daemon.settled("hook", len(acknowledged))
        assert await daemon.stop() == 0
        assert ids(hook.bodies()) == ids(acknowledged)


async def test_a_stop_waits_for_a_dead_destination_within_the_drain_budget(daemon: Daemon) -> None:
    async with Destination() as hook:
        hook.behaviour = Answer(hang=True)
        daemon.configure("10-all", TABLES % (hook.url, WINDOW, WINDOW) + '[runtime]\ndrain = "300ms"')
        await daemon.start()
        event = make_event()
        assert (await daemon.post(b'{"events":[%s]}' % event))[0] == 202
        await hook.requested(1)
        assert await daemon.stop() == 0
        assert daemon.logged("relay stopped")
        hook.behaviour = 200
        await daemon.start()
        await daemon.settled("hook", 1)
        assert hook.bodies()[-1] == event


async def test_a_destination_that_refuses_connections_is_logged_once_and_waits(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush-hush")
    async with Destination() as hook:
        hook.behaviour = Answer(status=401, body=b"go away")
        daemon.configure(
            "10-all",
            f"""
            [source.braze]
            type = "currents"
            path = "/currents"
            [connector.hook]
            type = "heap"
            endpoint = "{hook.url}?key=hush-hush"
            token = {{ file = "{tmp_path / "secret"}" }}
            retry = {{ first = "5ms", max = "20ms" }}
            """,
        )
        await daemon.start()
        event = make_event()
        assert (await daemon.post(b'{"events":[%s]}' % event))[0] == 202
        await hook.requested(5)
        hook.behaviour = 200
        await daemon.settled("hook", 1)
        assert hook.requests[0].headers["Authorization"] == "Bearer hush-hush"
        assert await daemon.stop() == 0
    assert [line["reason"] for line in daemon.logged("destination does not accept relay")] == ["HTTP 401: go away"]
    assert len(daemon.logged("deliveries work again")) == 1
    assert daemon.list_complaints() == ["destination does not accept relay"]
    assert "hush-hush" not in "".join(daemon.stderr)


async def test_a_second_relay_on_the_same_state_folder_is_refused(daemon: Daemon) -> None:
    daemon.configure("10-all", TABLES % ("http://127.0.0.1:1/", WINDOW, WINDOW))
    await daemon.start()
    second = await daemon.run("run", "--conf", str(daemon.conf))
    assert second.returncode == 1
    assert f"in use by another relay (process {daemon.pid})".encode() in second.stderr
    assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202


@pytest.mark.promise(5)
async def test_while_it_stops_senders_are_told_to_come_again(daemon: Daemon) -> None:
    async with Destination() as hook:
        hook.behaviour = Answer(hang=True)
        daemon.configure("10-all", TABLES % (hook.url, WINDOW, WINDOW))
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await hook.requested(1)
        daemon.signal(signal.SIGTERM)
        await daemon.until(lambda: len(daemon.logged("relay stops")), bool)
        async with aiohttp.ClientSession() as session, session.post(daemon.url + "/currents", data=b"") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert [line["reason"] for line in daemon.logged(CUT_SHORT)] == ["another signal"]


async def test_a_removed_connector_is_reported_with_its_expired_events(daemon: Daemon) -> None:
    daemon.configure("00-journal", '[journal]\nmax_size = "16MiB"')
    events = [make_event(filling="x" * 2000) for _ in range(100)]
    async with Destination() as hook:
        hook.behaviour = 500
        daemon.configure("10-all", TABLES % (hook.url, WINDOW, WINDOW))
        await daemon.start()
        while (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202:
            pass
        (full,) = await daemon.until(lambda: daemon.logged("journal fills up"), bool)
        assert (full["connector"], full["level"]) == ("hook", "error")
        await daemon.until(lambda: daemon.logged("the journal takes no events"), bool)
        assert await daemon.stop() == 0

        whole = TABLES % (hook.url, WINDOW, WINDOW)
        daemon.configure("10-all", whole.replace("[connector.hook]", "[connector.other]"))
        await daemon.start()
        (gone,) = daemon.logged("connector is gone but has events to come")
        assert (gone["connector"], gone["pending"]) == ("hook", daemon.ledger()["hook"].pending)
        for _ in range(40):
            assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] in (202, 503)
        assert await daemon.stop() == 0

        hook.behaviour = 200
        daemon.configure("10-all", whole)
        await daemon.start()
        books = await daemon.settled("hook", daemon.ledger()["hook"].accepted)
        (expired,) = daemon.logged("events expired")
        assert (expired["connector"], expired["events"]) == ("hook", books.counts.expired)
        assert books.counts.expired > 0


async def test_a_unix_socket_can_be_listened_on_and_a_stale_one_does_not_matter(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "ingest.sock"
    daemon.configure("00-ingest", f'[ingest]\nlisten = ["unix:{path}", "127.0.0.1:0"]')
    daemon.configure("10-all", '[source.braze]\ntype = "currents"\npath = "/currents"')
    for _ in range(2):
        await daemon.start()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
            session.post("http://relay/currents", data=b"") as answer,
        ):
            assert answer.status == 200
        await daemon.kill()
