"""A cluster of Kafka for tests: librdkafka's mock of brokers, in a process of its own, and doors in front that fail."""

from tests.kafka.cluster import MockCluster, run_cluster, start_shared_cluster
from tests.kafka.door import Doors

__all__ = ["Doors", "MockCluster", "run_cluster", "start_shared_cluster"]
