"""The connector type `kafka`."""

from relay_plugins.kafka.connector import Kafka

__all__ = ["Kafka"]
