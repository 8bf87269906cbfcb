"""A real relay that fills a topic of a mock cluster: odd events, kill -9 of relay, and brokers that go away."""

import asyncio
import os
import random
from collections.abc import Iterator

import aiohttp
import orjson
import pytest

pytest.importorskip("aiokafka", reason="the connector takes the package currents-relay[kafka]")

from relay.testing import make_event
from tests.daemon import Daemon
from tests.kafka import MockCluster, run_cluster
from tests.process.commands import act, until_answer

ROUNDS = 20 if "RELAY_LONG" in os.environ else 1
UNKNOWN_TOPIC = 3
CONFIG = """
[source.braze]
type = "currents"
path = "/currents"
[connector.stream]
type = "kafka"
servers = %s
topic = "%s"
max_message = "4KiB"
timeout = "5s"
batch = { events = 50, age = "5ms" }
retry = { first = "10ms", max = "100ms" }
[connector.archive]
type = "file"
path = "out.ndjson"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    with run_cluster() as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: MockCluster) -> str:
    return cluster.make_topic()


@pytest.fixture
def configured(daemon: Daemon, cluster: MockCluster, topic: str) -> Daemon:
    daemon.configure("10-all", CONFIG % (orjson.dumps(cluster.servers).decode(), topic))
    return daemon


async def send(daemon: Daemon, acknowledged: set[str]) -> None:
    """Post events until the task is cancelled, or relay is gone. Remember the ids of those that relay has taken."""
    chance = random.Random(1)
    async with aiohttp.ClientSession() as session:
        while True:
            events = [make_event(user={"user_id": f"user-{chance.randrange(50)}"}) for _ in range(20)]
            body = b'{"events":[%s]}' % b",".join(events)
            try:
                async with session.post(f"{daemon.url}/currents", data=body) as answer:
                    if answer.status == 202:
                        acknowledged.update(orjson.loads(event)["id"] for event in events)
            except aiohttp.ClientError:
                return
            await asyncio.sleep(0.002)


def read_ids(cluster: MockCluster, topic: str) -> list[str]:
    return [orjson.loads(one.value)["id"] for one in cluster.read(topic)]


async def test_a_missing_topic_waits_and_a_large_event_is_parked_alone(
    configured: Daemon, cluster: MockCluster, topic: str
) -> None:
    cluster.ask("fail_topic", topic, UNKNOWN_TOPIC)
    await configured.start()
    good = [make_event(n=number) for number in range(60)]
    large = make_event(text="x" * 5000)
    assert (await configured.post(b'{"events":[%s]}' % b",".join([*good[:30], large, *good[30:]])))[0] == 202
    missing = f"Kafka, topic {topic}: UNKNOWN_TOPIC_OR_PARTITION; create the topic"
    await until_answer(configured, "status", good=lambda found: missing in str(found["lanes"]))
    cluster.ask("fail_topic", topic, 0)
    await act(configured, "resume", "stream")
    books = await configured.settled("stream", 61)
    assert (books.counts.delivered, books.counts.parked) == (60, 1)
    (parked,) = configured.parked()
    assert "bytes as a message to Kafka; max_message is 4,096" in parked.reason
    assert sorted(read_ids(cluster, topic)) == sorted(orjson.loads(event)["id"] for event in good)
    assert await configured.stop() == 0
    assert not [one for one in configured.list_complaints() if "aiokafka" in one]


@pytest.mark.slow
@pytest.mark.long
async def test_relay_killed_under_load_has_everything_in_the_topic(
    configured: Daemon, cluster: MockCluster, topic: str
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
    await configured.settled("stream", len(acknowledged))
    assert await configured.stop() == 0
    assert acknowledged <= {*read_ids(cluster, topic)}


@pytest.mark.slow
async def test_brokers_that_were_away_under_load_have_everything_afterwards(
    configured: Daemon, cluster: MockCluster, topic: str
) -> None:
    for partition in range(3):
        cluster.ask("lead", topic, partition, partition + 1)
    acknowledged = set[str]()
    await configured.start()
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(send(configured, acknowledged), name="sender")
        for away in ([2], [1, 2, 3]):
            seen = len(acknowledged)
            await configured.until(lambda: len(acknowledged), lambda now, seen=seen: now > seen + 100)
            for broker in away:
                cluster.ask("set_down", broker)
            seen = len(acknowledged)
            # the other connector goes on meanwhile
            await configured.until(
                lambda: configured.ledger()["archive"].counts.delivered, lambda now, seen=seen: now > seen + 100
            )
            for broker in away:
                cluster.ask("set_up", broker)
            await configured.until(
                lambda: configured.ledger()["stream"].counts.delivered, lambda now, seen=seen: now > seen
            )
        sender.cancel()
    await configured.settled("stream", len(acknowledged))
    assert await configured.stop() == 0
    assert acknowledged <= {*read_ids(cluster, topic)}
