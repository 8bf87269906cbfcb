"""The connector type `braze_cohorts`, and the command `relay cohorts`."""

from relay_plugins.braze_cohorts.connector import BrazeCohorts, relay_commands

__all__ = ["BrazeCohorts", "relay_commands"]
