"""The brokers of a cluster: connections, logins, topics, and identities of producers."""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.util import INTEGER_MAX_VALUE

from relay.api import Retry, Unauthorized
from relay_plugins.kafka.refusal import UNKNOWN_TOPIC, read_code, read_error

AGAIN_S: Final = 0.1
"""Seconds until the brokers are asked once more."""
TOPIC_S: Final = 2.0
"""Most seconds in which the brokers may make a topic that they did not have."""
CLOSE_S: Final = 1.0
FORBIDDEN_TOPIC: Final = 29

Way = dict[str, Any]
"""How to connect: arguments that aiokafka's client and its connections have in common."""


@dataclass(slots=True, eq=False)
class Identity:
    """What a broker knows a producer by, and the number of the next message for each partition.

    A broker stores each number once. So an identity serves one delivery at a time, and is given up once it is unknown
    whether a message has arrived.
    """

    id: int
    epoch: int
    next: dict[TopicPartition, int] = field(default_factory=dict)


class Brokers:
    """The connections to the brokers. All deliveries share them: a broker stores in the order in which relay sends."""

    def __init__(self, servers: Collection[tuple[str, int]], way: Way, patience: float) -> None:
        """`patience`: seconds that the brokers have for an answer."""
        self._servers, self._way = servers, way | {"request_timeout_ms": round(patience * 1000)}
        self._topic_s = min(TOPIC_S, patience)
        self._client: AIOKafkaClient | None = None
        self.idle = list[Identity]()
        """Identities that no delivery uses."""

    @cached_property
    def _connecting(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def connect(self) -> AIOKafkaClient:
        """Return the client, which knows brokers. Raises `Retry`, `Unauthorized`."""
        async with self._connecting:
            if self._client is not None:
                return self._client
            servers = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._servers]
            client = AIOKafkaClient(bootstrap_servers=servers, **self._way)
            try:
                await client.bootstrap()
            except KafkaError as error:
                await _close(client)
                raise await self.explain(str(error)) from None
            except BaseException:
                await _close(client)
                raise
            self._client = client
            return client

    async def find_partitions(
        self, client: AIOKafkaClient, topics: Collection[str]
    ) -> dict[str, list[int] | Unauthorized]:
        """Return the partitions of each topic, or what is wrong with the topic. Raises ConnectionError."""
        known, until = client.cluster, time.monotonic() + self._topic_s
        while missing := [topic for topic in topics if not known.partitions_for_topic(topic)]:
            for topic in missing:
                client.add_topic(topic)
            if not await client.force_metadata_update():
                raise ConnectionError("no broker of Kafka answers")
            if time.monotonic() > until or all(topic in known.unauthorized_topics for topic in missing):
                break
            if any(known.partitions_for_topic(topic) is None for topic in missing):
                await asyncio.sleep(AGAIN_S)
        found: dict[str, list[int] | Unauthorized] = {}
        for topic in topics:
            forbidden = topic in known.unauthorized_topics
            partitions = sorted(known.partitions_for_topic(topic) or ())
            outcome = read_code(FORBIDDEN_TOPIC if forbidden else UNKNOWN_TOPIC, topic)
            found[topic] = partitions or Unauthorized(outcome.reason)
        return found

    async def take_identity(self, client: AIOKafkaClient) -> Identity:
        """Return an identity of a producer, which no other delivery has. Raises KafkaError."""
        if self.idle:
            return self.idle.pop()
        while True:
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=INTEGER_MAX_VALUE)
            try:
                answer = await client.send(client.get_random_node(), request)
                if not answer.error_code:
                    return Identity(answer.producer_id, answer.producer_epoch)
                raise for_code(answer.error_code)
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def explain(self, otherwise: str) -> Retry | Unauthorized:
        """Return why the brokers cannot be used. `otherwise`: the reason if they can."""
        found: list[Retry | Unauthorized] = []
        for server in self._servers:
            try:
                (await self.knock(server)).close()
            except (Retry, Unauthorized) as outcome:
                found.append(outcome)
            except (OSError, TimeoutError) as error:
                found.append(Retry(f"Kafka, {server[0]}:{server[1]}: {_describe(error)}"))
            else:
                return Retry(otherwise)
        return next((one for one in found if isinstance(one, Unauthorized)), found[0])

    async def knock(self, server: tuple[str, int]) -> AIOKafkaConnection:
        """Connect to a server and log in. Raises `Retry`, `Unauthorized`, OSError, TimeoutError."""
        host, port = server
        way = dict(self._way)
        try:
            return await create_conn(host, port, **way)
        except KafkaError as error:
            raise read_error(error, f"{host}:{port}") from None

    async def look(self, topic: str | None) -> tuple[int, int, Unauthorized | None]:
        """Return the number of brokers, and of the partitions of a topic, or what is wrong with the topic.

        Changes nothing. Raises `Retry`, `Unauthorized`, OSError, TimeoutError.
        """
        for server in self._servers:
            try:
                connection = await self.knock(server)
            except (OSError, TimeoutError, Retry):
                continue
            try:
                answer = await connection.send(MetadataRequest([topic] if topic else [], False))
            finally:
                connection.close()
            if not topic:
                return len(answer.brokers), 0, None
            ((code, _, _, partitions),) = answer.topics
            wrong = Unauthorized(read_code(code, topic).reason) if code else None
            return len(answer.brokers), len(partitions), wrong
        raise await self.explain("no broker of Kafka answers")

    def is_open(self, client: AIOKafkaClient) -> bool:
        """Return whether the client is the one that deliveries share."""
        return client is self._client

    async def close(self, client: AIOKafkaClient | None = None) -> None:
        """Close all connections, or those of one client. The next delivery connects again."""
        if self._client is not None and client in (None, self._client):
            client, self._client = self._client, None
            self.idle.clear()
            await _close(client)


async def _close(client: AIOKafkaClient) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_S):
            await client.close()


def _describe(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
