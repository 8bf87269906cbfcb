"""What can happen to relay, and be wrong with it: one table for the history, for alerts, and for whoever selects."""

from types import MappingProxyType
from typing import Final

CONDITIONS: Final = MappingProxyType(
    {
        "paused": "an admin has paused the connector",
        "unauthorized": "the destination does not accept relay",
        "refusing": "the destination refuses the events that it gets",
        "failing": "deliveries fail, and are tried again",
        "broken": "the lane of the connector was stopped by an error of its own, or cannot be opened",
        "behind": "events wait for longer than they should, though deliveries get through",
        "parked": "events lie parked",
        "source_refusing": "the source has answered nothing but errors",
        "source_incomplete": "the source lacks a part of what comes in several requests",
        "journal_filling": "most of what the journal may take is still needed",
        "journal_full": "the journal takes no events",
        "database_failing": "relay.db cannot be written",
        "damaged": "events of the journal cannot be read",
        "erasure_failing": "erasures cannot be done",
        "worker_lost": "a worker does not answer",
        "doubt": "journal, database or clock are not as they were: an admin has to look, and may accept it",
        "reload_refused": "the configuration on disk has mistakes, and the one before goes on",
    }
)
"""What is wrong for a while, by kind."""

ENDS: Final = MappingProxyType(
    {
        "paused": "resumed",
        "source_refusing": "source_recovered",
        "source_incomplete": "source_recovered",
        "journal_filling": "journal_recovered",
        "journal_full": "journal_recovered",
        "database_failing": "journal_recovered",
        "erasure_failing": "erasure_recovered",
        "worker_lost": "worker_recovered",
    }
)
"""How the end of a condition is called, where not `recovered`."""
