"""Messages about several relays that share one store in PostgreSQL."""

from typing import Final

from relay.log_messages.message import LogMessage

NODES: Final = (
    LogMessage(
        "another relay has taken the name of the node",
        "error",
        "This relay stood still, and another relay has started under its name since. This relay takes events in, and"
        " delivers nothing. `reason` says where the other relay runs.",
        "Stop one of the two, or give each a `journal.node` of its own.",
    ),
    LogMessage(
        "the name of the node is free again",
        "info",
        "The other relay with this name has ended, or the database has lost what it knew. This relay delivers again.",
    ),
    LogMessage(
        "leases not renewed",
        "debug",
        "The database has not answered. relay tries again until its leases are over.",
    ),
    LogMessage(
        "lease not given back",
        "warning",
        "The database has not answered. Another process can have the partition in `ends_in_s` seconds.",
    ),
)
