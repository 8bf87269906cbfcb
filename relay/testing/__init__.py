"""Helps tests of plugins: events, batches and messages, a destination that misbehaves, and a suite for connectors."""

from relay.testing.build import make_batch, make_event, make_message
from relay.testing.destination import Answer, Behaviour, Destination, Received, Reset
from relay.testing.filtered import filtered
from relay.testing.suite import ConnectorSuite

__all__ = [
    "Answer",
    "Behaviour",
    "ConnectorSuite",
    "Destination",
    "Received",
    "Reset",
    "filtered",
    "make_batch",
    "make_event",
    "make_message",
]
