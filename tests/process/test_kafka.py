"""A real relay that fills a topic of a mock cluster: odd events, kill -9 of relay, and brokers that go away."""

import random
from collections.abc import Iterator

import orjson
import pytest

pytest.importorskip("aiokafka", reason="the connector takes the package currents-relay[kafka]")

from relay.testing import make_event
from tests.daemon import Daemon
from tests.kafka import MockCluster, run_cluster
from tests.process.commands import act, until_answer
from tests.process.load import ARCHIVE, MORE, Load

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
    daemon.configure("10-all", CONFIG % (orjson.dumps(cluster.servers).decode(), topic) + ARCHIVE)
    return daemon


def make_users_event(chance: random.Random) -> bytes:
    return make_event(user={"user_id": f"user-{chance.randrange(50)}"})


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
    load = Load(configured, make_users_event)
    await load.kill_relay()
    await configured.start()
    await configured.settled("stream", len(load.acknowledged))
    assert await configured.stop() == 0
    assert load.acknowledged <= {*read_ids(cluster, topic)}


@pytest.mark.slow
async def test_brokers_that_were_away_under_load_have_everything_afterwards(
    configured: Daemon, cluster: MockCluster, topic: str
) -> None:
    for partition in range(3):
        cluster.ask("lead", topic, partition, partition + 1)
    load = Load(configured, make_users_event)
    await configured.start()
    async with load.under_way():
        for away in ([2], [1, 2, 3]):
            await load.until_more()
            for broker in away:
                cluster.ask("set_down", broker)
            await load.until_delivered("archive", MORE)  # it goes on meanwhile
            for broker in away:
                cluster.ask("set_up", broker)
            await load.until_delivered("stream")
    await configured.settled("stream", len(load.acknowledged))
    assert await configured.stop() == 0
    assert load.acknowledged <= {*read_ids(cluster, topic)}
