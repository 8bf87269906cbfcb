"""A configuration that may come into force: what it can name, whether it is right, and what it would do.

Plugins' code runs here, also of plugins that relay has not loaded. So relay asks a process of its own.
"""

from relay.proposal.changes import add_pending, compare_alerts_and_settings, compare_configs, find_waiting
from relay.proposal.probe import Probe, probe_connector
from relay.proposal.values import (
    AvailablePlugin,
    AvailableType,
    AvailableTypes,
    CheckedProposal,
    EventSample,
    Example,
    Proposal,
    ProposalAnswer,
)

__all__ = [
    "AvailablePlugin",
    "AvailableType",
    "AvailableTypes",
    "CheckedProposal",
    "EventSample",
    "Example",
    "Probe",
    "Proposal",
    "ProposalAnswer",
    "add_pending",
    "compare_alerts_and_settings",
    "compare_configs",
    "find_waiting",
    "probe_connector",
]
