"""The suite of all connectors for `kafka`: a mock cluster of librdkafka, behind doors that want a login and fail."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("aiokafka", reason="the connector takes the package currents-relay[kafka]")

from relay.api import Secret
from relay.testing import AnyConnectorSuite, SuiteDestination, find_ids
from relay_plugins.kafka import Kafka
from tests.kafka import Doors, start_shared_cluster

PASSWORD = "a-secret-that-nobody-may-see"
"""The suite's secret, which the doors want to see."""
NOT_ENOUGH_REPLICAS = 19


class Topic(SuiteDestination):
    """A topic of the shared cluster, and doors of its own."""

    def __init__(self) -> None:
        self._cluster = start_shared_cluster()
        self._topic = self._cluster.make_topic()
        self._doors = Doors(self._cluster.servers, PASSWORD)
        self.address = (self._doors.servers, self._topic)

    async def __aenter__(self) -> "Topic":
        await self._doors.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cluster.ask("fail", [])
        await self._doors.__aexit__()

    async def arrived(self) -> list[str]:
        return [found for one in self._cluster.read(self._topic) for found in find_ids(one.value)[:1]]

    async def fail_with(self, failure: Any) -> None:
        if failure == "unavailable":
            self._cluster.ask("fail", [NOT_ENOUGH_REPLICAS] * 1000)
        else:
            await self._doors.fail_with(failure)

    async def recover(self) -> None:
        self._cluster.ask("fail", [])
        await self._doors.fail_with("")


class TestKafka(AnyConnectorSuite):
    lacks: ClassVar = {
        "idempotent": "Kafka knows no ids of messages; consumers go by the header id",
        "threads": "aiokafka computes its answer to a login in threads that all plugins share",
    }

    def destination(self, folder: Path) -> Topic:
        return Topic()

    def make(self, address: Any, token: Secret, folder: Path) -> Kafka:
        servers, topic = address
        login = {"sasl": "plain", "user": "relay", "password": token}
        table = {"type": "kafka", "servers": servers, "topic": topic, "timeout": "5s"} | login
        return Kafka("events", Kafka.Settings.model_validate(table), folder=folder)
