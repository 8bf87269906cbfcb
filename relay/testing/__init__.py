"""Helps tests of plugins: events, batches, messages, a destination that misbehaves, a store in memory, and a suite."""

from relay.testing.build import make_batch, make_event, make_message
from relay.testing.destination import Answer, Behaviour, Destination, Received, Reset
from relay.testing.filtered import filtered
from relay.testing.memory_relay import ConnectorBooks, MemoryRelay
from relay.testing.memory_store import MemoryStore
from relay.testing.suite import (
    AnyConnectorSuite,
    ConnectorSuite,
    Failure,
    FilterSuite,
    HttpDestination,
    SourceSuite,
    SuiteDestination,
    find_ids,
)

__all__ = [
    "Answer",
    "AnyConnectorSuite",
    "Behaviour",
    "ConnectorBooks",
    "ConnectorSuite",
    "Destination",
    "Failure",
    "FilterSuite",
    "HttpDestination",
    "MemoryRelay",
    "MemoryStore",
    "Received",
    "Reset",
    "SourceSuite",
    "SuiteDestination",
    "filtered",
    "find_ids",
    "make_batch",
    "make_event",
    "make_message",
]
