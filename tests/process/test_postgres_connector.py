"""A real relay that fills a table of a real PostgreSQL: odd events, kill -9 of relay, and death of the server."""

import asyncio
import os
import random
from collections.abc import Iterator

import aiohttp
import orjson
import pytest

pytest.importorskip("asyncpg", reason="the connector takes the package currents-relay[postgres]")

from relay.testing import make_event
from relay_plugins.postgres.table import make_table
from tests.daemon import Daemon
from tests.postgres import Server, run_server
from tests.process.commands import act, until_answer

ROUNDS = 20 if "RELAY_LONG" in os.environ else 1
CONFIG = """
[source.braze]
type = "currents"
path = "/currents"
[erasure]
after = "0s"
[connector.lake]
type = "postgres"
dsn = { file = "%s" }
batch = { events = 50, age = "5ms" }
retry = { first = "10ms", max = "100ms" }
[connector.archive]
type = "file"
path = "out.ndjson"
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with run_server() as server:
        server.execute(make_table("events"))
        yield server


@pytest.fixture
def configured(daemon: Daemon, server: Server) -> Daemon:
    dsn = daemon.conf.parent / "dsn"
    dsn.write_text(f"postgresql://relay@127.0.0.1:{server.port}/postgres")
    daemon.configure("10-all", CONFIG % dsn)
    return daemon


async def send(daemon: Daemon, acknowledged: set[str]) -> None:
    """Post events until the task is cancelled, or relay is gone. Remember the ids of those that relay has taken."""
    async with aiohttp.ClientSession() as session:
        while True:
            events = [make_event() for _ in range(20)]
            body = b'{"events":[%s]}' % b",".join(events)
            try:
                async with session.post(f"{daemon.url}/currents", data=body) as answer:
                    if answer.status == 202:
                        acknowledged.update(orjson.loads(event)["id"] for event in events)
            except aiohttp.ClientError:
                return
            await asyncio.sleep(0.002)


def read_ids(server: Server) -> list[str]:
    return [str(row[0]) for row in server.execute("SELECT event->>'id' FROM events")]


async def test_a_table_gets_what_it_can_hold_once_it_is_there_and_loses_users(
    configured: Daemon, server: Server
) -> None:
    server.execute("ALTER TABLE events RENAME TO hidden")
    await configured.start()
    good = [make_event(n=number) for number in range(60)]
    odd = make_event(text="a\0b")
    assert (await configured.post(b'{"events":[%s]}' % b",".join([*good[:30], odd, *good[30:]])))[0] == 202
    missing = 'relation "events" does not exist (42P01); make the table'
    await until_answer(configured, "status", good=lambda found: missing in str(found["lanes"]))
    assert configured.parked() == []
    server.execute("ALTER TABLE hidden RENAME TO events")
    await act(configured, "resume", "lake")
    books = await configured.settled("lake", 61)
    assert (books.counts.delivered, books.counts.parked) == (60, 1)
    (parked,) = configured.parked()
    assert "22P05" in parked.reason
    assert sorted(read_ids(server)) == sorted(orjson.loads(event)["id"] for event in good)
    await act(configured, "erasures", "request", "--external-id", "customer-1")
    (erasure,) = await until_answer(configured, "erasures", "list", good=lambda found: found[0]["status"] == "done")
    assert erasure["removed"]["events"] == 61
    assert read_ids(server) == []
    assert await configured.stop() == 0


@pytest.mark.slow
async def test_relay_killed_under_load_has_everything_in_the_table_once(configured: Daemon, server: Server) -> None:
    chance, acknowledged = random.Random(3), set[str]()
    for _ in range(ROUNDS):
        await configured.start()
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(send(configured, acknowledged), name=f"sender {number}")
            enough = len(acknowledged) + chance.randint(20, 400)
            await configured.until(lambda: len(acknowledged), lambda now, enough=enough: now > enough)
            await configured.kill()
    await configured.start()
    await configured.settled("lake", len(acknowledged))
    assert await configured.stop() == 0
    stored = read_ids(server)
    assert acknowledged <= {*stored}
    assert len(stored) == len({*stored})


@pytest.mark.slow
@pytest.mark.long  # quicker: test_connector in tests/unit/plugins/postgres
async def test_a_server_that_died_under_load_has_everything_afterwards(configured: Daemon, server: Server) -> None:
    acknowledged = set[str]()
    await configured.start()
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(send(configured, acknowledged), name="sender")
        for end in (server.kill, server.stop):
            seen = len(acknowledged)
            await configured.until(lambda: len(acknowledged), lambda now, seen=seen: now > seen + 100)
            end()
            seen = len(acknowledged)
            # the other connector goes on meanwhile
            await configured.until(
                lambda: configured.ledger()["archive"].counts.delivered, lambda now, seen=seen: now > seen + 100
            )
            server.start()
            await configured.until(
                lambda: configured.ledger()["lake"].counts.delivered, lambda now, seen=seen: now > seen
            )
        sender.cancel()
    await configured.settled("lake", len(acknowledged))
    assert await configured.stop() == 0
    stored = read_ids(server)
    assert acknowledged <= {*stored}
    assert len(stored) == len({*stored})
