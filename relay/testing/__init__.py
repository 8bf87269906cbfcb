"""Helps tests of plugins: events, batches, messages, a destination that misbehaves, a store in memory, and a suite."""

from relay.testing.build import make_batch, make_event, make_message
from relay.testing.destination import Answer, Behaviour, Destination, Received, Reset
from relay.testing.filtered import filtered
from relay.testing.memory_store import MemoryStore
from relay.testing.suite import ConnectorSuite

__all__ = [
    "Answer",
    "Behaviour",
    "ConnectorSuite",
    "Destination",
    "MemoryStore",
    "Received",
    "Reset",
    "filtered",
    "make_batch",
    "make_event",
    "make_message",
]
