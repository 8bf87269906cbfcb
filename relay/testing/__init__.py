"""For tests of plugins: events to deliver or to filter, messages of alerts, a destination that misbehaves on demand,
and a suite for connectors."""

from relay.testing.build import make_batch, make_event, make_message
from relay.testing.destination import Answer, Destination, Received, Reset
from relay.testing.filtered import filtered
from relay.testing.suite import ConnectorSuite

__all__ = [
    "Answer",
    "ConnectorSuite",
    "Destination",
    "Received",
    "Reset",
    "filtered",
    "make_batch",
    "make_event",
    "make_message",
]
