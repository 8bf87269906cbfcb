"""A configuration that may come into force: what it can name, whether it is right, and what it would do.

Plugins' code runs here, also of plugins that relay has not loaded. So relay asks a process of its own.
"""

from relay.proposal.available import AvailablePlugin, AvailableType, AvailableTypes

__all__ = ["AvailablePlugin", "AvailableType", "AvailableTypes"]
