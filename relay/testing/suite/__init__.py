"""Suites: what every connector must show, as tests that a test module subclasses."""

from relay.testing.suite.connector import AnyConnectorSuite, ConnectorSuite
from relay.testing.suite.destination import Failure, HttpDestination, SuiteDestination, find_ids
from relay.testing.suite.filter import FilterSuite
from relay.testing.suite.rehearsal import Rehearsal
from relay.testing.suite.source import SourceSuite

__all__ = [
    "AnyConnectorSuite",
    "ConnectorSuite",
    "Failure",
    "FilterSuite",
    "HttpDestination",
    "Rehearsal",
    "SourceSuite",
    "SuiteDestination",
    "find_ids",
]
