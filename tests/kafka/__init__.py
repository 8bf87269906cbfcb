"""A cluster of Kafka for tests: librdkafka's mock of brokers, in a process of its own, and doors in front that fail."""

from tests.kafka.cluster import MockCluster, end_shared_cluster, run_cluster, start_shared_cluster
from tests.kafka.door import Doors

__all__ = ["Doors", "MockCluster", "end_shared_cluster", "run_cluster", "start_shared_cluster"]
