"""Suites: what every connector must show, as tests that a test module subclasses."""

from relay.testing.suite.connector import AnyConnectorSuite, ConnectorSuite
from relay.testing.suite.destination import Failure, HttpDestination, SuiteDestination, find_ids
from relay.testing.suite.rehearsal import Rehearsal

__all__ = [
    "AnyConnectorSuite",
    "ConnectorSuite",
    "Failure",
    "HttpDestination",
    "Rehearsal",
    "SuiteDestination",
    "find_ids",
]
