"""A real relay that fills a bucket of a real server: kill -9 of relay, and a server that goes away."""

import asyncio
import gzip
import os
import random
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import aiohttp
import orjson
import pytest

pytest.importorskip("obstore", reason="the connector takes the package currents-relay[s3]")
pytest.importorskip("moto", reason="the server of the tests takes moto[s3] and flask")

from relay.testing import make_event
from tests.daemon import Daemon
from tests.object_store import ObjectStore, run_object_store

ROUNDS = 20 if "RELAY_LONG" in os.environ else 1
TYPES = ("users.messages.email.Send", "users.messages.email.Open", "users.behaviors.Purchase")
CONFIG = """
[source.braze]
type = "currents"
path = "/currents"
[connector.lake]
type = "s3"
bucket = "lake"
endpoint = "%s"
access_key = { file = "%s" }
secret_key = { file = "%s" }
format = "%s"
batch = { events = 100, age = "20ms" }
retry = { first = "10ms", max = "100ms" }
[connector.archive]
type = "file"
path = "out.ndjson"
"""


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with run_object_store() as store:
        store.make_bucket("lake")
        yield store


@pytest.fixture
def form() -> str:
    return "ndjson"


@pytest.fixture
def configured(daemon: Daemon, store: ObjectStore, form: str) -> Daemon:
    key = daemon.conf.parent / "key"
    key.write_text("access")
    daemon.configure("10-all", CONFIG % (store.url, key, key, form))
    return daemon


async def send(daemon: Daemon, acknowledged: set[str]) -> None:
    """Post events until the task is cancelled, or relay is gone. Remember the ids of those that relay has taken."""
    chance = random.Random(1)
    async with aiohttp.ClientSession() as session:
        while True:
            events = [make_event(chance.choice(TYPES)) for _ in range(20)]
            try:
                async with session.post(
                    f"{daemon.url}/currents", data=b'{"events":[%s]}' % b",".join(events)
                ) as answer:
                    if answer.status == 202:
                        acknowledged.update(orjson.loads(event)["id"] for event in events)
            except aiohttp.ClientError:
                return
            await asyncio.sleep(0.002)


def read_ids(store: ObjectStore) -> list[str]:
    """Return the ids in all objects. Every object has events of one type, that in its key."""
    found = list[str]()
    for key, body in store.list_objects("lake").items():
        if key.endswith(".avro"):
            found += read_avro(key, body)
            continue
        events = [orjson.loads(line) for line in gzip.decompress(body).splitlines()]
        assert {f"event_type={event['event_type']}" for event in events} == {key.split("/")[0]}
        found += [event["id"] for event in events]
    return found


def read_avro(key: str, body: bytes) -> list[str]:
    from fastavro import reader

    values: Any = reader(BytesIO(body))
    assert values.writer_schema["name"] == f"dataexport.S3.inner.{key.split('/')[0].removeprefix('event_type=')}"
    return [value["id"] for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ndjson", pytest.param("avro", marks=pytest.mark.long)])
async def test_relay_killed_under_load_has_everything_in_the_bucket(
    configured: Daemon, store: ObjectStore, form: str
) -> None:
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
    assert acknowledged <= {*read_ids(store)}
    assert all(f".{form}" in key for key in store.list_objects("lake"))


@pytest.mark.slow
@pytest.mark.long  # quicker: test_connector in tests/unit/plugins/s3
async def test_a_store_that_was_away_gets_all_events_each_once(configured: Daemon, store: ObjectStore) -> None:
    acknowledged = set[str]()
    await configured.start()
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(send(configured, acknowledged), name="sender")
        for delivered in (100, 100):
            before = configured.ledger()["lake"].counts.delivered if acknowledged else 0
            await configured.until(
                lambda: configured.ledger()["lake"].counts.delivered, lambda now, least=before + delivered: now > least
            )
            await asyncio.to_thread(store.stop)
            seen = len(acknowledged)
            # the other connector goes on meanwhile
            await configured.until(
                lambda: configured.ledger()["archive"].counts.delivered, lambda now, seen=seen: now > seen + 100
            )
            store.start()
        sender.cancel()
    await configured.settled("lake", len(acknowledged))
    assert await configured.stop() == 0
    stored = read_ids(store)
    assert {*stored} >= acknowledged
    assert len(stored) == len({*stored})
