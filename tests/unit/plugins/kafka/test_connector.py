"""The connector type `kafka`, against a mock cluster of librdkafka: what arrives, and what each failure means."""

import asyncio
import ssl
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from pydantic import ValidationError

pytest.importorskip("aiokafka", reason="the connector takes the package currents-relay[kafka]")

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from relay.api import DELIVERED, Batch, Block, Event, Kind, Reject, Retry, Skipped, Unauthorized, User
from relay_plugins.kafka import Kafka
from relay_plugins.kafka.brokers import Identity
from relay_plugins.kafka.record_batches import KafkaMessage, RecordBatches
from relay_plugins.kafka.topic import make_topic
from tests.certificates import Authority
from tests.kafka import Doors, MockCluster, start_shared_cluster

SEND = Kind("braze", "users.messages.email.Send")
RECEIVED = 1_790_000_000.25
TOO_LARGE, NOT_ENOUGH_REPLICAS, NOT_LEADER = 10, 19, 6

Make = Callable[..., Awaitable[Kafka]]


def event(number: int, user: object = None, **more: object) -> Event:
    data = {"id": f"id-{number}", "event_type": SEND.type, "user": user or {}} | more
    return Event(orjson.dumps(data), SEND, number, RECEIVED)


def batch_of(*events: Event) -> Batch:
    return Batch([Block.of(events)])


def user_events(number: int) -> list[Event]:
    return [event(one, {"user_id": f"user-{one}"}) for one in range(number)]


@pytest.fixture
def cluster() -> MockCluster:
    return start_shared_cluster()


@pytest.fixture
def topic(cluster: MockCluster) -> str:
    return cluster.make_topic()


@pytest.fixture
async def make(connect, cluster, topic) -> Make:
    async def open_one(**more) -> Kafka:
        connector = connect(Kafka, **{"servers": cluster.servers, "topic": topic, "timeout": "5s"} | more)
        await connector.open()
        return connector

    return open_one


@pytest.fixture
async def doors(cluster, monkeypatch) -> AsyncIterator[Doors]:
    monkeypatch.setenv("RELAY_TEST_PASSWORD", "right-secret")
    monkeypatch.setenv("RELAY_TEST_WRONG", "wrong-secret")
    async with Doors(cluster.servers, "right-secret") as doors:
        yield doors


LOGIN = {"sasl": "plain", "user": "relay", "password": {"env": "RELAY_TEST_PASSWORD"}}


async def test_every_sample_is_a_message_field_by_field(make, cluster, topic, samples) -> None:
    bodies = [orjson.loads(body) | {"id": name} for name, body in samples.items()]  # some samples share an id
    events = [Event(orjson.dumps(one), Kind("braze", one["event_type"]), 0, RECEIVED) for one in bodies]
    assert await (await make()).deliver(batch_of(*events)) == [DELIVERED] * len(samples)
    found = {one.headers["id"].decode(): one for one in cluster.read(topic)}
    assert len(found) == len(samples)
    for sent, data in zip(events, bodies, strict=True):
        message = found[data["id"]]
        assert message.value == sent.body
        assert message.headers == {"id": data["id"].encode(), "type": data["event_type"].encode()}
        user_id = data["user"].get("user_id")
        assert message.key == (user_id.encode() if user_id else None)
        assert message.time == RECEIVED * 1000


async def test_events_of_a_user_are_in_one_partition_in_order(make, cluster, topic) -> None:
    connector = await make()
    for start in range(0, 60, 20):
        users = ({"user_id": f"user-{number % 7}"} for number in range(start, start + 20))
        await connector.deliver(batch_of(*(event(start + number, one) for number, one in enumerate(users))))
    places, order = defaultdict(set), defaultdict(list)
    for one in sorted(cluster.read(topic), key=lambda one: one.offset):
        places[one.key].add(one.partition)
        order[one.key].append(int(one.headers["id"][3:]))
    assert {len(found) for found in places.values()} == {1}
    assert len({*map(tuple, places.values())}) > 1
    assert all(found == sorted(found) for found in order.values())
    assert sum(map(len, order.values())) == 60


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("user.user_id", None),
        ("user.external_user_id", b"anna"),
        ("n", b"7"),
        ("user", None),
        ("gone.away", None),
        ("", None),
    ],
)
async def test_a_key_is_a_field_that_names_somebody(make, cluster, topic, field, key) -> None:
    user = {"user_id": "[REDACTED]", "external_user_id": "anna"}
    await (await make(message_key=field)).deliver(batch_of(event(1, user, n=7)))
    assert [one.key for one in cluster.read(topic)] == [key]


@pytest.mark.parametrize(
    ("type", "name"),
    [
        ("users.messages.email.Send", "braze.users.messages.email.Send-x"),
        ("../../etc", "braze..._.._etc-x"),
        ("ä ö#\0\n", "braze.______-x"),
        ("", "braze.-x"),
        ("x" * 5000, f"braze.{'x' * 100}-x"),
    ],
)
def test_a_type_leads_to_no_other_topics(type: str, name: str) -> None:
    assert make_topic("braze.{type}-x", type, "s") == name


async def test_a_template_gives_each_type_its_topic(make, cluster, topic) -> None:
    cluster.ask("create", f"{topic}.order_new", 1)
    connector = await make(topic=f"{topic}.{{type}}")
    await connector.deliver(batch_of(Event(b'{"id":"1"}', Kind("shop", "order:new"), 0, RECEIVED)))
    (one,) = cluster.read(f"{topic}.order_new")
    assert (one.value, one.headers["type"]) == (b'{"id":"1"}', b"order:new")
    assert await connector.probe() == "Kafka with 3 brokers"


@pytest.mark.parametrize(("compress", "codec"), [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)])
async def test_compressed_messages_arrive_as_they_are(make, cluster, topic, compress, codec, monkeypatch) -> None:
    codecs, build = set[int](), RecordBatches._build_one

    def look(*arguments) -> bytes:
        body = build(*arguments)
        codecs.add(struct.unpack_from(">h", body, 21)[0])
        return body

    monkeypatch.setattr(RecordBatches, "_build_one", look)
    events = [event(number, text="x" * 500) for number in range(20)]
    await (await make(compress=compress)).deliver(batch_of(*events))
    assert sorted(one.value for one in cluster.read(topic)) == sorted(one.body for one in events)
    assert codecs == {codec}


async def test_a_message_over_the_limit_is_refused_alone(make, cluster, topic) -> None:
    connector = await make(max_message="2KiB")
    events = [event(1), event(2, text="x" * 3000), *(event(number, text="x" * 900) for number in range(3, 9))]
    outcomes = await connector.deliver(batch_of(*events))
    assert [type(one) for one in outcomes].count(Reject) == 1
    assert "bytes as a message to Kafka; max_message is 2,048" in outcomes[1].reason
    assert sorted(one.headers["id"] for one in cluster.read(topic)) == [b"id-1", *(b"id-%d" % n for n in range(3, 9))]


async def test_a_message_that_a_broker_finds_too_large_is_refused_alone(make, cluster) -> None:
    topic = cluster.make_topic(1)
    connector = await make(topic=topic)
    # three messages; the first; the two others; the second of the three, alone; the last
    cluster.ask("fail_partition", topic, 0, [TOO_LARGE, 0, TOO_LARGE, TOO_LARGE, 0])
    first, refused, last = await connector.deliver(batch_of(event(1), event(2), event(3)))
    assert (first, last) == (DELIVERED, DELIVERED)
    assert isinstance(refused, Reject)
    assert f"topic {topic}: MESSAGE_TOO_LARGE: the topic's max.message.bytes is less than its" in refused.reason
    assert [one.headers["id"] for one in cluster.read(topic)] == [b"id-1", b"id-3"]


async def test_of_a_batch_that_is_stored_in_part_the_rest_is_sent_again(make, cluster, topic) -> None:
    connector, events = await make(), user_events(30)
    cluster.ask("fail_partition", topic, 1, [NOT_ENOUGH_REPLICAS] * 20)
    outcomes = await connector.deliver(batch_of(*events))
    stored = {one.headers["id"].decode() for one in cluster.read(topic)}
    for one, outcome in zip(events, outcomes, strict=True):
        assert (outcome == DELIVERED) is (one.id in stored)
    waiting = [one for one in outcomes if one != DELIVERED]
    assert 0 < len(waiting) < 30
    assert {(type(one), one.reason) for one in waiting} == {(Retry, f"Kafka, topic {topic}: NOT_ENOUGH_REPLICAS")}
    while any(one != DELIVERED for one in outcomes):
        events = [one for one, outcome in zip(events, outcomes, strict=True) if outcome != DELIVERED]
        outcomes = await connector.deliver(batch_of(*events))
    assert len(cluster.read(topic)) == 30


async def test_another_leader_and_a_forgotten_producer_lose_nothing(make, cluster) -> None:
    topic = cluster.make_topic(1)
    connector = await make(topic=topic)
    cluster.ask("fail_partition", topic, 0, [NOT_LEADER, NOT_LEADER])
    assert await connector.deliver(batch_of(event(1))) == [DELIVERED]
    for stale in (45, 59):
        cluster.ask("fail_partition", topic, 0, [stale])
        (outcome,) = await connector.deliver(batch_of(event(2)))
        assert isinstance(outcome, Retry)
        assert await connector.deliver(batch_of(event(2))) == [DELIVERED]
    assert len(cluster.read(topic)) == 3


async def test_a_broker_that_is_away_holds_up_its_own_partitions_only(make, cluster, topic) -> None:
    for partition in range(3):
        cluster.ask("lead", topic, partition, partition + 1)
    connector, events = await make(), user_events(30)
    await connector.deliver(batch_of(event(100)))
    cluster.ask("set_down", 2)
    try:
        outcomes = await connector.deliver(batch_of(*events))
        waiting = [one for one, outcome in zip(events, outcomes, strict=True) if isinstance(outcome, Retry)]
        assert 0 < len(waiting) < 30
        assert outcomes.count(DELIVERED) == 30 - len(waiting)
    finally:
        cluster.ask("set_up", 2)
    assert await connector.deliver(batch_of(*waiting)) == [DELIVERED] * len(waiting)
    assert {one.headers["id"].decode() for one in cluster.read(topic)} >= {one.id for one in events}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (3, "UNKNOWN_TOPIC_OR_PARTITION; create the topic"),
        (29, "TOPIC_AUTHORIZATION_FAILED; grant the user the rights Write and Describe on the topic"),
    ],
)
async def test_a_topic_that_is_missing_or_forbidden_waits_and_is_named(make, cluster, code, said) -> None:
    topic, other = cluster.make_topic(), cluster.make_topic()
    connector = await make(topic=topic)
    cluster.ask("fail_topic", topic, code)
    (outcome,) = await connector.deliver(batch_of(event(1)))
    assert isinstance(outcome, Unauthorized)
    assert outcome.reason == f"Kafka, topic {topic}: {said}"
    with pytest.raises(Unauthorized, match=said):
        await connector.probe()
    cluster.ask("fail_topic", topic, 0)
    assert await connector.deliver(batch_of(event(1))) == [DELIVERED]
    assert await connector.probe() == f"Kafka with 3 brokers; topic {topic} has 3 partitions"
    assert cluster.read(other) == []


async def test_a_right_that_is_missing_at_a_broker_waits(make, cluster) -> None:
    topic = cluster.make_topic(1)
    connector = await make(topic=topic)
    cluster.ask("fail_partition", topic, 0, [31])
    (outcome,) = await connector.deliver(batch_of(event(1)))
    assert isinstance(outcome, Unauthorized)
    assert "CLUSTER_AUTHORIZATION_FAILED; grant the user the right IdempotentWrite" in outcome.reason


@pytest.mark.parametrize("sasl", ["plain", "scram-sha-256", "scram-sha-512"])
async def test_a_refused_login_waits_and_says_what_to_do(make, cluster, topic, doors, sasl) -> None:
    wrong = await make(servers=doors.servers, **LOGIN | {"sasl": sasl, "password": {"env": "RELAY_TEST_WRONG"}})
    for call in (wrong.probe(), wrong.deliver(batch_of(event(1)))):
        with pytest.raises(Unauthorized, match=r"SASL_AUTHENTICATION_FAILED .*; check user and password") as said:
            await call
        assert "wrong-secret" not in repr(said.value)
    right = await make(servers=doors.servers, **LOGIN | {"sasl": sasl})
    assert "3 brokers" in await right.probe()
    assert await right.deliver(batch_of(event(1))) == [DELIVERED]
    assert len(cluster.read(topic)) == 1


async def test_tls_trusts_the_named_authority_only(make, cluster, topic, tmp_path) -> None:
    authority, other = Authority(tmp_path / "right"), Authority(tmp_path / "other")
    authority.issue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    async with Doors(cluster.servers, context=context) as doors:
        secure = {"servers": doors.servers, "tls": True}
        connector = await make(**secure, ca=str(authority.ca))
        assert await connector.deliver(batch_of(event(1))) == [DELIVERED]
        for wrong in (await make(**secure, ca=str(other.ca)), await make(**secure)):
            with pytest.raises(Retry, match="certificate verify failed"):
                await wrong.deliver(batch_of(event(2)))
        await connector.close()
    assert len(cluster.read(topic)) == 1


async def test_a_cluster_that_nobody_reaches_is_tried_again(make, doors, cluster, topic) -> None:
    connector = await make(servers=doors.servers, **LOGIN)
    await doors.fail_with("refused")
    for call in (connector.deliver(batch_of(event(1))), connector.probe()):
        with pytest.raises(Retry, match=r"Kafka, 127.0.0.1:\d+: Connect"):
            await call
    await doors.fail_with("hanging")
    with pytest.raises(Retry, match=r"no broker of Kafka has answered within 1\.5 s"):
        await connector.deliver(batch_of(event(1)))
    await doors.fail_with("")
    assert await connector.deliver(batch_of(event(1))) == [DELIVERED]
    assert len(cluster.read(topic)) == 1


async def test_deliveries_at_once_share_what_fails_and_what_recovers(make, doors, cluster, topic) -> None:
    connector = await make(servers=doors.servers, concurrency=3, **LOGIN)
    await connector.deliver(batch_of(*user_events(3)))
    events = [[event(100 * one + number) for number in range(5)] for one in range(3)]
    await doors.fail_with("cut")
    calls = (connector.deliver(batch_of(*some)) for some in events)
    for outcomes in await asyncio.gather(*calls, return_exceptions=True):
        assert {type(one) for one in outcomes} == {Retry} if isinstance(outcomes, list) else type(outcomes) is Retry
    await doors.fail_with("")
    for outcomes in await asyncio.gather(*(connector.deliver(batch_of(*some)) for some in events)):
        assert outcomes == [DELIVERED] * 5
    assert {one.headers["id"].decode() for one in cluster.read(topic)} >= {one.id for some in events for one in some}
    await connector.close()
    assert not [one for one in asyncio.all_tasks() if "aiokafka" in one.get_coro().cr_code.co_filename]


class FakeBroker:
    """Answers by a list of errors, and remembers the identity and the numbers of each record batch."""

    def __init__(self, *answers: object) -> None:
        self._answers, self.asked = iter(answers), []
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1, available_partitions_for_topic=lambda _: {0})

    async def send(self, leader: int, request) -> SimpleNamespace:
        ((_, ((_, body),)),) = request._topics
        assert request.required_acks == -1  # all replicas in sync
        self.asked.append(struct.unpack_from(">qhii", body, 43))
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(topics=[("t", [(0, answer, 0)])])

    async def force_metadata_update(self) -> bool:
        return True


async def send_some(broker: FakeBroker, identity: Identity, number: int) -> RecordBatches:
    async def run(work):
        return work()

    records = RecordBatches(broker, lambda: True, identity, "none", 5)
    records.pack([KafkaMessage(one, "t", None, b"{}", [], 0) for one in range(number)], {"t": [0]}, 1 << 20)
    await records.send(run)
    return records


async def test_numbers_follow_what_is_stored_and_repeat_what_is_unclear() -> None:
    broker, identity = FakeBroker(0, TOO_LARGE, 0, TOO_LARGE, NOT_LEADER, 0, 46), Identity(7, 2)
    for number, refused in ((2, set()), (2, {1}), (3, set()), (1, set())):
        records = await send_some(broker, identity, number)
        assert records.outcomes.keys() == refused
        assert records.identity_is_good
    # two; two, too large; the first; the second, too large; three, unclear; the same three; one, which is there already
    assert broker.asked == [(7, 2, *pair) for pair in [(0, 2), (2, 2), (2, 1), (3, 1), (3, 3), (3, 3), (6, 1)]]
    assert identity.next == {TopicPartition("t", 0): 7}


@pytest.mark.parametrize("refusal", [TOO_LARGE, 29, 45])
async def test_numbers_that_may_be_taken_are_not_used_again(refusal: int) -> None:
    records = await send_some(FakeBroker(KafkaConnectionError(), refusal), Identity(7, 2), 1)
    assert records.outcomes.keys() == {0}
    assert not records.identity_is_good


async def test_users_in_topics_stay_and_the_receipt_says_where(make, topic) -> None:
    (outcome,) = await (await make()).erase([User("5f")])
    assert outcome == Skipped(f"Kafka deletes no single messages: topic {topic} has the user until its retention")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"topic": "{type}"}, "begin with a text of your own"),
        ({"topic": "_{type}"}, "begin with a text of your own"),
        ({"topic": "a.{date}"}, "{date} is none of {type}, {source}"),
        ({"topic": "a.{type!r}"}, "{type} is none of"),
        ({"topic": "a/b"}, "Kafka allows 249 letters"),
        ({"topic": ".."}, "Kafka allows"),
        ({"topic": "x" * 250}, "Kafka allows"),
        ({"topic": "a{"}, "topic"),
        ({"servers": ["kafka"]}, "expected a host and its port"),
        ({"servers": ["kafka:0"]}, "expected a host and its port"),
        ({"servers": []}, "servers"),
        ({"sasl": "plain"}, "belong together"),
        ({"sasl": "plain", "user": "relay"}, "belong together"),
        ({"user": "relay"}, "belong together"),
        ({"ca": "/etc/ssl/certs/none.pem"}, "ca, certificate and key need tls = true"),
        ({"compress": "brotli"}, "compress"),
    ],
)
def test_settings_say_what_is_wrong(wrong, said) -> None:
    with pytest.raises(ValidationError) as error:
        Kafka.Settings.model_validate({"type": "kafka", "servers": ["k:9092"], "topic": "braze"} | wrong)
    assert said in str(error.value)


def test_a_password_without_tls_is_a_warning(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELAY_TEST_PASSWORD", "right-secret")
    table = {"type": "kafka", "servers": ["[::1]:9092"], "topic": "braze"} | LOGIN
    settings = Kafka.Settings.model_validate(table)
    assert [about for about, _ in settings.warnings()] == ["sasl tls"]
    scram = Kafka.Settings.model_validate(table | {"sasl": "scram-sha-256", "tls": True})
    assert [*scram.warnings()] == []
    way = Kafka("k", scram, folder=tmp_path)._way
    assert (way["security_protocol"], way["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-256")
