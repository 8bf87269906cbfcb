"""A real relay that fills a bucket of a real server: kill -9 of relay, and a server that goes away."""

import asyncio
import gzip
import random
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import orjson
import pytest

pytest.importorskip("obstore", reason="the connector takes the package currents-relay[s3]")
pytest.importorskip("moto", reason="the server of the tests takes moto[s3] and flask")

from relay.testing import make_event
from tests.daemon import Daemon
from tests.object_store import ObjectStore, run_object_store
from tests.process.load import ARCHIVE, MORE, Load

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
    daemon.configure("10-all", CONFIG % (store.url, key, key, form) + ARCHIVE)
    return daemon


def make_some_event(chance: random.Random) -> bytes:
    return make_event(chance.choice(TYPES))


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
    load = Load(configured, make_some_event)
    await load.kill_relay()
    await configured.start()
    await configured.settled("lake", len(load.acknowledged))
    assert await configured.stop() == 0
    assert load.acknowledged <= {*read_ids(store)}
    assert all(f".{form}" in key for key in store.list_objects("lake"))


@pytest.mark.slow
@pytest.mark.long  # quicker: test_connector in tests/unit/plugins/s3
async def test_a_store_that_was_away_gets_all_events_each_once(configured: Daemon, store: ObjectStore) -> None:
    load = Load(configured, make_some_event)
    await configured.start()
    async with load.under_way():
        for _ in range(2):
            await load.until_delivered("lake", MORE)
            await asyncio.to_thread(store.stop)
            await load.until_delivered("archive", MORE)  # it goes on meanwhile
            store.start()
    await configured.settled("lake", len(load.acknowledged))
    assert await configured.stop() == 0
    stored = read_ids(store)
    assert {*stored} >= load.acknowledged
    assert len(stored) == len({*stored})
