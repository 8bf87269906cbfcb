"""The connector type `kafka`: events as messages in topics of Kafka."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from relay.api import (
    DELIVERED,
    REDACTED,
    Batch,
    ByteSize,
    CertificateSettings,
    Connector,
    ConnectorSettings,
    Contradiction,
    Event,
    Outcome,
    Reject,
    Retry,
    Secret,
    Skipped,
    Unauthorized,
    UnreadableEvent,
    User,
    value_in,
)

if TYPE_CHECKING:
    from relay_plugins.kafka.brokers import Brokers
    from relay_plugins.kafka.record_batches import KafkaMessage

SHARE: Final = 0.3
"""Part of `timeout` in which relay connects, and as much again in which it repeats messages under the same numbers."""
PROBE_S: Final = 5.0
PORTS: Final = range(1, 1 << 16)


def split_server(server: str) -> tuple[str, int]:
    """Return host and port. Raises ValueError."""
    host, _, port = server.rpartition(":")
    if not host.strip("[].") or not (port.isascii() and port.isdigit() and int(port) in PORTS) or " " in server:
        raise ValueError(f'expected a host and its port such as "kafka-1.example.com:9092", got {server!r}')
    return host.strip("[]"), int(port)


def _check_server(server: str) -> str:
    split_server(server)
    return server


def _check_topic(topic: str) -> str:
    from relay_plugins.kafka.topic import check_topic  # a relay without the type needs no names of topics

    return check_topic(topic)


class Kafka(Connector, type="kafka", batch={"age": "50ms"}):
    """Sends events as messages to topics of Kafka.

    A message is the event as it came. Its key is the id of the user, so that the events of a user are in one partition.
    Its headers `id` and `type` are those of the event.
    """

    requires: ClassVar[Mapping[str, str]] = {"aiokafka": "currents-relay[kafka]", "cramjam": "currents-relay[kafka]"}

    class Settings(CertificateSettings, ConnectorSettings):
        """The brokers, the login and the topics."""

        servers: tuple[Annotated[str, AfterValidator(_check_server)], ...] = Field(min_length=1)
        """Brokers, such as `["kafka-1:9092", "kafka-2:9092"]`. relay learns the other brokers from them."""
        topic: Annotated[str, AfterValidator(_check_topic)]
        """The topic, or a template with `{type}` and `{source}`: `"braze.{type}"`. The topics must exist, unless the
        brokers make topics by themselves.

        A template begins with a letter or a digit of your own. Characters of a type or source that Kafka does not
        allow become `_`.
        """
        message_key: str = "user.user_id"
        """The field that is the key of a message, such as `"user.external_user_id"`. Events with the same key go to the
        same partition. Events without the field, and all events with `""`, have no key, and go to any partition."""
        tls: bool = False
        """Whether connections use TLS. `ca`, `certificate` and `key` apply with `tls = true` only."""
        sasl: Literal["none", "plain", "scram-sha-256", "scram-sha-512"] = "none"
        """How relay logs in. It needs `user` and `password`, unless it is `"none"`."""
        user: str = ""
        """Name of the user for the login."""
        password: Secret | None = None
        """Password of the user."""
        compress: Literal["none", "gzip", "lz4", "snappy", "zstd"] = "none"
        """How messages are compressed."""
        max_message: ByteSize = Field(default=1 << 20, ge=1 << 10, le=1 << 30)
        """Most bytes of a message, and of messages that are sent together to a partition, before compression. relay
        parks larger messages. Raise it together with `max.message.bytes` of the topics."""
        concurrency: int = Field(1, ge=1, le=256)
        """Maximum number of batches under way at a time. With more than 1, the events of a user may change their order
        when a broker fails, unless `order_by` keeps it."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield a login without user or password, and certificates without TLS."""
            yield from super().contradictions()
            if (self.sasl == "none") is not (not self.user and self.password is None) or (
                bool(self.user) is not (self.password is not None)
            ):
                yield "sasl user password", "sasl, user and password belong together: set all three, or none"
            if not self.tls and any((self.ca, self.certificate, self.key)):
                yield "tls", "ca, certificate and key need tls = true"

        def warnings(self) -> Iterator[Contradiction]:
            """Yield a password that everybody on the way can read."""
            yield from super().warnings()
            if self.sasl == "plain" and not self.tls:
                yield "sasl tls", 'sasl = "plain" without tls sends the password for everybody to read'

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        from relay_plugins.kafka.topic import is_template, make_topic

        self._one_topic = None if is_template(settings.topic) else settings.topic
        self._topic = lru_cache(1024)(partial(make_topic, settings.topic))
        self._key_path = settings.message_key.split(".") if settings.message_key else []
        self._patience = settings.timeout * SHARE
        self._brokers: Brokers | None = None

    async def open(self) -> None:
        """Load the client. A delivery connects."""
        import aiokafka  # noqa: F401

        # What it says is in the outcomes of deliveries as well; at debug it would tell passwords
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    async def probe(self) -> str:
        """Connect, log in, and look for the topic. Raises `Retry`, `Unauthorized`."""
        await self.open()
        kafka = await self._make_brokers(PROBE_S)
        try:
            async with asyncio.timeout(PROBE_S):
                brokers, partitions, wrong = await kafka.look(self._one_topic)
        except TimeoutError:
            raise Retry(f"no broker of Kafka has answered within {PROBE_S:g} s") from None
        if wrong is not None:
            raise wrong
        said = f"Kafka with {brokers} {'broker' if brokers == 1 else 'brokers'}"
        return f"{said}; topic {self._one_topic} has {partitions} partitions" if self._one_topic else said

    async def deliver(self, batch: Batch) -> list[Outcome]:
        """Send the events; return an outcome for each. Raises `Retry`, `Unauthorized`."""
        from aiokafka.errors import KafkaError

        from relay_plugins.kafka.record_batches import RecordBatches
        from relay_plugins.kafka.refusal import read_error

        brokers = self._brokers = self._brokers or await self._make_brokers(self._patience / 2)
        topics = {self._topic(kind.type, kind.source) for block in batch.blocks for kind in block.kinds}
        client, silent = None, f"no broker of Kafka has answered within {self._patience:g} s"
        try:
            async with asyncio.timeout(self._patience):
                client = await brokers.connect()
                partitions = await brokers.find_partitions(client, topics)
                identity = await brokers.take_identity(client)
        except (TimeoutError, ConnectionError):
            raise await self._give_up(brokers, client, silent) from None
        except KafkaError as error:
            raise read_error(error, "producer") from None
        is_open = partial(brokers.is_open, client)
        records = RecordBatches(client, is_open, identity, self.settings.compress, self._patience)
        outcomes = await self.run_blocking(self._pack, batch, partitions, records)
        await records.send(self.run_blocking)
        if records.identity_is_good:
            brokers.idle.append(identity)
        elif records.unclear:
            records.give_up_rest(await self._give_up(brokers, client, records.unclear))
        for number, outcome in records.outcomes.items():
            outcomes[number] = outcome
        return outcomes

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Return `Skipped`: Kafka deletes no single messages."""
        reason = f"Kafka deletes no single messages: topic {self.settings.topic} has the user until its retention"
        return [Skipped(reason)] * len(users)

    async def close(self) -> None:
        """Close the connections."""
        brokers, self._brokers = self._brokers, None
        if brokers is not None:
            await brokers.close()

    @cached_property
    def _way(self) -> dict[str, Any]:
        """Return how to connect. It reads certificates, and blocks."""
        settings = self.settings
        way: dict[str, Any] = {"client_id": f"relay-{self.name}"}
        if settings.tls:
            way["ssl_context"] = settings.make_tls_context()
        if settings.password is not None:
            way |= {
                "sasl_mechanism": settings.sasl.upper(),
                "sasl_plain_username": settings.user,
                "sasl_plain_password": settings.password.reveal(),
            }
        login = "SASL_" if settings.sasl != "none" else ""
        way["security_protocol"] = login + ("SSL" if settings.tls else "PLAINTEXT")
        return way

    async def _make_brokers(self, patience: float) -> "Brokers":
        from relay_plugins.kafka.brokers import Brokers

        way = await self.run_blocking(lambda: self._way)
        return Brokers([split_server(one) for one in self.settings.servers], way, patience)

    async def _give_up(self, brokers: "Brokers", client: Any, otherwise: str) -> Retry | Unauthorized:
        """Close the connections of a client, and return why the brokers cannot be used, if that shows in time."""
        if client is not None:
            await brokers.close(client)
        try:
            async with asyncio.timeout(self._patience / 2):
                return await brokers.explain(otherwise)
        except TimeoutError:
            return Retry(otherwise)

    def _pack(self, batch: Batch, partitions: Mapping[str, Any], records: Any) -> list[Outcome]:
        """Hand over the messages. Return the outcomes of the events, if all are stored."""
        outcomes: list[Outcome] = [DELIVERED] * len(batch)
        messages, most = list["KafkaMessage"](), self.settings.max_message
        for number, event in enumerate(batch):
            message = self._make_message(number, event)
            found = partitions[message.topic]
            if not isinstance(found, list):
                outcomes[number] = found
            elif message.size > most:
                reason = f"has {message.size:,} bytes as a message to Kafka; max_message is {most:,}"
                outcomes[number] = Reject(reason)
            else:
                messages.append(message)
        records.pack(messages, {topic: one for topic, one in partitions.items() if isinstance(one, list)}, most)
        return outcomes

    def _make_message(self, number: int, event: Event) -> "KafkaMessage":
        from relay_plugins.kafka.record_batches import KafkaMessage

        headers = [("type", event.type.encode(errors="replace"))]
        if own := _find_text(event, [event.kind.id_field]):
            headers.insert(0, ("id", own))
        key = _find_text(event, self._key_path) if self._key_path else None
        topic, time = self._topic(event.type, event.source), int(event.received * 1000)
        return KafkaMessage(number, topic, key, event.body, headers, time)


def _find_text(event: Event, path: Collection[str]) -> bytes | None:
    """Return a text or number of an event; None if there is none, or Braze has redacted it."""
    try:
        value: Any = event.data
    except UnreadableEvent:
        value = value_in(event.body, [*path])
    else:
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
    if value is None or isinstance(value, dict | list) or value in ("", REDACTED):
        return None
    return str(value).encode(errors="replace")
