"""One delivery to Kafka: its messages in record batches, each sent until a broker has stored or refused it.

aiokafka's own producer has no place here. It tries again without an end, in tasks that outlive a delivery which relay
has given up, and counts the numbers of a refused message as used, so that a broker refuses all that follow.
The page docs/decisions/kafka.md says more.
"""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from relay.api import Outcome, Retry
from relay_plugins.kafka.brokers import AGAIN_S, Identity
from relay_plugins.kafka.refusal import STALE, STORED, UNFIT, is_lasting, name_error, read_code, refuse_messages

ALL_REPLICAS: Final = -1
"""A broker answers once all replicas that are in sync have the messages."""
LEADER_NOT_AVAILABLE: Final = 5
MAGIC: Final = 2
CODECS: Final = {
    "none": DefaultRecordBatch.CODEC_NONE,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}
choose_partition: Final = DefaultPartitioner()
"""Chooses as Kafka's own clients do: by the murmur2 hash of the key."""


class KafkaMessage(NamedTuple):
    """A message to Kafka."""

    number: int
    """Number of the event in the batch of relay."""
    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    time: int
    """Milliseconds."""

    @property
    def size(self) -> int:
        """Return the bytes of the message, alone in a record batch and not compressed, or a few more."""
        size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(self.key, self.value, self.headers)
        return size


class RecordBatches:
    """The messages of a delivery. A broker stores or refuses a record batch as a whole, and one for each partition at
    a time."""

    def __init__(
        self, client: AIOKafkaClient, is_open: Callable[[], bool], identity: Identity, codec: str, patience: float
    ) -> None:
        """`is_open`: whether the client may still be used. `patience`: seconds for all messages together."""
        self._client, self._is_open = client, is_open
        self._identity, self._codec, self._patience = identity, codec, patience
        self._queues = dict[TopicPartition, deque[Sequence[KafkaMessage]]]()
        self._errors = dict[TopicPartition, int | KafkaError]()
        self._is_stale = False
        self.outcomes = dict[int, Outcome]()
        """The outcomes of the messages that are not stored, by the numbers of their events."""
        self.identity_is_good = False
        """Whether it is known of each message that was sent whether it is stored."""

    @property
    def unclear(self) -> str | None:
        """Return why no broker has answered about some messages; None if all are answered."""
        if not self._queues:
            return None
        errors = [error for error in self._errors.values() if isinstance(error, KafkaError)]
        return f"Kafka has not stored it within {self._patience:g} s{f': {errors[-1]}' if errors else ''}"

    def pack(self, messages: Sequence[KafkaMessage], partitions: Mapping[str, Sequence[int]], most: int) -> None:
        """Divide messages into record batches of `most` bytes. Messages of a key go to one partition, in order."""
        anywhere = {topic: random.choice(self._find_available(topic, some)) for topic, some in partitions.items()}
        sizes = dict[TopicPartition, int]()
        for message in messages:
            everywhere = partitions[message.topic]
            number = choose_partition(message.key, everywhere, everywhere) if message.key else anywhere[message.topic]
            place, size = TopicPartition(message.topic, number), message.size
            queue = self._queues.setdefault(place, deque())
            if not queue or sizes[place] + size > most:
                queue.append([])
                sizes[place] = 0
            queue[-1].append(message)  # type: ignore[attr-defined]
            sizes[place] += size

    async def send(self, run_blocking: Callable[..., Awaitable[Any]]) -> None:
        """Send all messages, until each is stored or refused, or time is up. Then `outcomes` has an outcome for each
        message that may not be stored."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while self._queues and self._is_open():
                    bodies = await run_blocking(self._build)
                    if not self._settle(await self._ask(bodies)):
                        await asyncio.sleep(AGAIN_S)
                        await self._client.force_metadata_update()
        self.identity_is_good = not self._queues and not self._is_stale
        for place in [*self._queues]:
            if isinstance(error := self._errors.get(place), int):
                self._give_up(place, read_code(error, place.topic))

    def give_up_rest(self, outcome: Outcome) -> None:
        """Set the outcome of all messages that have none yet."""
        for place in [*self._queues]:
            self._give_up(place, outcome)

    def _find_available(self, topic: str, partitions: Sequence[int]) -> Sequence[int]:
        return [*(self._client.cluster.available_partitions_for_topic(topic) or ())] or partitions

    def _build(self) -> dict[TopicPartition, bytes]:
        """Return the first record batch of each partition. The same messages have the same bytes when sent again."""
        return {place: self._build_one(place, queue[0]) for place, queue in [*self._queues.items()]}

    def _build_one(self, place: TopicPartition, messages: Sequence[KafkaMessage]) -> bytes:
        identity = self._identity
        builder = DefaultRecordBatchBuilder(
            magic=MAGIC,
            compression_type=CODECS[self._codec],
            is_transactional=0,
            producer_id=identity.id,
            producer_epoch=identity.epoch,
            base_sequence=identity.next.get(place, 0),
            batch_size=1 << 30,
        )
        for offset, message in enumerate(messages):
            builder.append(offset, message.time, message.key, message.value, message.headers)
        return bytes(builder.build())

    async def _ask(self, bodies: Mapping[TopicPartition, bytes]) -> dict[TopicPartition, int | KafkaError]:
        """Send record batches to the leaders of their partitions; return the error that each has come to."""
        answers: dict[TopicPartition, int | KafkaError] = {}
        by_leader = defaultdict[int, dict[TopicPartition, bytes]](dict)
        for place, body in bodies.items():
            leader = self._client.cluster.leader_for_partition(place)
            if leader is None or leader == -1:
                answers[place] = LEADER_NOT_AVAILABLE
            else:
                by_leader[leader][place] = body
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._ask_leader(leader, own), name=f"broker {leader}")
                for leader, own in by_leader.items()
            ]
        for task in asked:
            answers |= task.result()
        return answers

    async def _ask_leader(self, leader: int, bodies: Mapping[TopicPartition, bytes]) -> dict[TopicPartition, Any]:
        topics = defaultdict[str, list[tuple[int, bytes]]](list)
        for place, body in bodies.items():
            topics[place.topic].append((place.partition, body))
        request = ProduceRequest(
            transactional_id=None,
            required_acks=ALL_REPLICAS,
            timeout=round(self._patience * 1000),
            topics=[*topics.items()],
        )
        try:
            answer = await self._client.send(leader, request)
        except KafkaError as error:
            return dict.fromkeys(bodies, error)
        return {
            TopicPartition(topic, partition): code
            for topic, partitions in answer.topics
            for partition, code, *_ in partitions
        }

    def _settle(self, answers: Mapping[TopicPartition, int | KafkaError]) -> bool:
        """Take answers into account; return whether all of them settle something."""
        moved = True
        for place, error in answers.items():
            queue = self._queues[place]
            messages = queue[0]
            if not (error in STORED or error in UNFIT or error in STALE or is_lasting(error)):
                self._errors[place], moved = error, False
                continue
            # An earlier attempt without a clear answer may have stored what is refused now: its numbers are taken
            was_unclear = self._errors.pop(place, None) is not None
            self._is_stale |= error in STALE or (was_unclear and error not in STORED)
            if error in STALE:
                self._give_up(place, Retry(f"Kafka, topic {place.topic}: {name_error(error)}", after=0))
                continue
            if is_lasting(error):
                self._give_up(place, read_code(error, place.topic))
                continue
            queue.popleft()
            if error in STORED:
                self._identity.next[place] = self._identity.next.get(place, 0) + len(messages)
            elif len(messages) > 1:
                middle = len(messages) // 2
                queue.extendleft((messages[middle:], messages[:middle]))
            else:
                (message,) = messages
                self.outcomes[message.number] = refuse_messages(error, place.topic, message.size)
            if not queue:
                del self._queues[place]
        return moved

    def _give_up(self, place: TopicPartition, outcome: Outcome) -> None:
        for messages in self._queues.pop(place):
            self.outcomes |= {message.number: outcome for message in messages}
