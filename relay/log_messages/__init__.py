"""Every message that relay and the built-in plugins log: level, meaning, and what to do.

This is data for the reference, and nothing that runs imports it. `tests/rules/test_log_messages.py` compares the data
with the code. A plugin that somebody else wrote logs messages of its own.
"""

from typing import Final

from relay.log_messages import cluster, console, delivery, intake, plugins, process, storage
from relay.log_messages.message import LogMessage

ROOMS: Final[dict[str, tuple[LogMessage, ...]]] = {
    "Start, stop and systemd": process.LIFE,
    "Configuration and reload": process.RELOAD,
    "Workers": process.WORKERS,
    "Journal": storage.JOURNAL,
    "Database `relay.db` and clock": storage.DATABASE,
    "Nodes and leases with PostgreSQL": cluster.NODES,
    "Connections and requests": intake.REQUESTS,
    "Sources": intake.SOURCES,
    "Certificates": intake.CERTIFICATES,
    "Deliveries": delivery.DELIVERIES,
    "Parked events": delivery.PARKED,
    "Replays": delivery.REPLAYS,
    "Erasures": delivery.ERASURES,
    "Alerts": process.ALERTS,
    "History, status and admin socket": process.HISTORY,
    "Console": console.CONSOLE,
    "Plugins in general": plugins.ANY,
    "Connector type `file`": plugins.FILE,
    "Filter type `lookup`": plugins.LOOKUP,
    "Source type `heap_segments`": plugins.HEAP_SEGMENTS,
    "Connector type `braze_cohorts`": plugins.BRAZE_COHORTS,
}
"""The messages by subject, in the order of the reference."""
