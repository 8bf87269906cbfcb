"""Tries a configuration before it counts. Delivers nothing.

Plugins' filters run here. A daemon does not import this package: it asks a process of its own.
"""

from relay.trial.filters import open_filters
from relay.trial.route_tests import Missed, TriedConnector, TriedTest, try_test

__all__ = ["Missed", "TriedConnector", "TriedTest", "open_filters", "try_test"]
