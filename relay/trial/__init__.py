"""Tries a configuration before it counts: its tests, and recorded events. Delivers nothing.

Plugins' filters run here. A daemon does not import this package: it asks a process of its own.
"""

from relay.trial.diff import diff_events
from relay.trial.diff_values import ConnectorDiff, Diff, DiffExample, DiffGroup, DiffReason, DiffRequest, FieldChange
from relay.trial.filters import open_filters
from relay.trial.route_tests import Missed, TriedConnector, TriedTest, try_test

__all__ = [
    "ConnectorDiff",
    "Diff",
    "DiffExample",
    "DiffGroup",
    "DiffReason",
    "DiffRequest",
    "FieldChange",
    "Missed",
    "TriedConnector",
    "TriedTest",
    "diff_events",
    "open_filters",
    "try_test",
]
