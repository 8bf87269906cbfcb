"""The process of a mock cluster: three brokers of librdkafka, and a consumer that reads what they have.

Takes a request per line, as JSON: the name of a function below, and its arguments. Answers each by a line.
librdkafka's functions for tests have no Python names: `rdkafka_mock.h` describes them.
"""

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import confluent_kafka
from confluent_kafka import Consumer, TopicPartition

BROKERS: Final = 3
PRODUCE: Final = 0
CALL_S: Final = 10.0
WITHOUT_RESULT: Final = ("clear_request_errors", "push_request_errors_array", "topic_set_error")


class Brokers:
    """The brokers and the consumer."""

    def __init__(self) -> None:
        folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
        (library,) = folder.glob("librdkafka*.so*")
        self._lib = lib = ctypes.CDLL(str(library))
        lib.rd_kafka_conf_new.restype = lib.rd_kafka_new.restype = ctypes.c_void_p
        lib.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        reason = ctypes.create_string_buffer(512)
        configuration = ctypes.c_void_p(lib.rd_kafka_conf_new())
        lib.rd_kafka_conf_set(configuration, b"log_level", b"0", reason, 512)
        handle = ctypes.c_void_p(lib.rd_kafka_new(0, configuration, reason, 512))
        self._cluster = ctypes.c_void_p(lib.rd_kafka_mock_cluster_new(handle, BROKERS))
        self.servers = lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode().split(",")
        self._consumer = Consumer(
            {
                "bootstrap.servers": ",".join(self.servers),
                "group.id": "tests",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,  # nothing is fetched between two reads
            }
        )
        self._next = dict[tuple[str, int], int]()

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self._call("topic_create", topic.encode(), partitions, BROKERS)

    def fail_topic(self, topic: str, error: int) -> None:
        """Have a topic be as an error says, such as 3: unknown."""
        self._call("topic_set_error", topic.encode(), error)

    def fail(self, errors: list[int]) -> None:
        """Answer the next requests to store messages by these errors. -195 closes the connection."""
        self._call("clear_request_errors", ctypes.c_int16(PRODUCE))
        if errors:
            self._call(
                "push_request_errors_array",
                ctypes.c_int16(PRODUCE),
                ctypes.c_size_t(len(errors)),
                (ctypes.c_int * len(errors))(*errors),
            )

    def fail_partition(self, topic: str, partition: int, errors: list[int]) -> None:
        """Answer the next requests to store messages in a partition by these errors."""
        self._call(
            "partition_push_request_errors",
            topic.encode(),
            partition,
            ctypes.c_int16(PRODUCE),
            ctypes.c_size_t(len(errors)),
            *errors,
        )

    def set_down(self, broker: int) -> None:
        """Close a broker's connections, and take no more."""
        self._call("broker_set_down", broker)

    def set_up(self, broker: int) -> None:
        """Take connections again."""
        self._call("broker_set_up", broker)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition."""
        self._call("partition_set_leader", topic.encode(), partition, broker)

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Return the messages of a topic that no earlier call has returned."""
        partitions = self._consumer.list_topics(topic, timeout=CALL_S).topics[topic].partitions
        wanted, begin = dict[int, int](), list[TopicPartition]()
        for number in partitions:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=CALL_S)
            start = max(low, self._next.get((topic, number), 0))
            if start < high:
                wanted[number] = high
                begin.append(TopicPartition(topic, number, start))
        found, until = list[dict[str, Any]](), time.monotonic() + CALL_S
        self._consumer.assign(begin)
        while wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"the consumer has not read {topic} up to {wanted}")
            for message in self._consumer.consume(1000, timeout=0.05):
                if message.error():
                    continue
                number, offset = message.partition(), message.offset()
                found.append(
                    {
                        "partition": number,
                        "offset": offset,
                        "key": _write(message.key()),
                        "value": _write(message.value()),
                        "headers": [[name, _write(value)] for name, value in message.headers() or ()],
                        "time": message.timestamp()[1],
                    }
                )
                self._next[topic, number] = offset + 1
                if number in wanted and offset + 1 >= wanted[number]:
                    del wanted[number]
        self._consumer.unassign()
        return found

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._lib, f"rd_kafka_mock_{name}")
        if name in WITHOUT_RESULT:
            function.restype = None
        if error := function(self._cluster, *arguments):
            raise RuntimeError(f"{name}: error {error}")


def _write(content: bytes | None) -> str | None:
    return None if content is None else content.decode("latin-1")


def main() -> None:
    """Serve requests until the input ends."""
    brokers = Brokers()
    print(json.dumps(brokers.servers), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer: Any = [getattr(brokers, name)(*arguments), None]
        except Exception as error:
            answer = [None, repr(error)]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
