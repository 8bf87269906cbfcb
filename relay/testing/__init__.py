"""For tests of plugins: events to deliver, a destination that misbehaves on demand, and a suite for connectors."""

from relay.testing.build import make_batch, make_event
from relay.testing.destination import Answer, Destination, Received, Reset
from relay.testing.suite import ConnectorSuite

__all__ = ["Answer", "ConnectorSuite", "Destination", "Received", "Reset", "make_batch", "make_event"]
