"""The kinds of conditions and entries: one table for the history, for alerts, and for selections."""

from types import MappingProxyType
from typing import Final

CONDITIONS: Final = MappingProxyType(
    {
        "paused": "an admin has paused the connector",
        "unauthorized": "the destination does not accept relay",
        "refusing": "the destination refuses every event",
        "failing": "deliveries fail, and are tried again",
        "broken": "an error of its own has stopped the connector, or relay cannot open the connector",
        "behind": "deliveries succeed, and events still wait longer than they should",
        "parked": "events are parked",
        "source_refusing": "relay has answered all requests of the source with errors",
        "source_incomplete": "the source lacks a part of a transfer in several requests, such as a segment sync",
        "journal_filling": "connectors still need most of the journal's room",
        "journal_full": "the journal accepts no events",
        "database_failing": "the database cannot be written, or is away",
        "damaged": "events of the journal cannot be read",
        "erasure_failing": "erasures cannot be done",
        "certificate_expiring": "a certificate that relay shows expires soon",
        "certificate_expired": "a certificate that relay shows has expired, or is not valid yet",
        "worker_lost": "a worker does not answer",
        "database_troubled": "the database of a shared journal acknowledges nothing, or is slowed down from outside",
        "node_lost": "a node that shares the partitions gives no sign of life",
        "partition_unopened": "no process can open a partition of a shared journal: its events wait",
        "doubt": "journal, database or clock do not fit together: an admin has to look, and may accept the state",
        "alert_failing": "relay cannot send the messages of an alert",
        "reload_refused": "the configuration on disk has mistakes; the earlier configuration stays in force",
    }
)
"""Conditions, which last for a while, by kind."""

FAMILIES: Final = MappingProxyType(
    {
        **dict.fromkeys(("paused", "unauthorized", "refusing", "failing", "broken", "behind"), "state"),
        **dict.fromkeys(("journal_filling", "journal_full"), "journal"),
        **dict.fromkeys(("certificate_expiring", "certificate_expired"), "certificate"),
    }
)
"""Families, by kind. A subject has one kind of a family at a time; a change within a family is no new condition. Any
other kind is a family by itself."""


ENDS: Final = MappingProxyType(
    {
        "paused": "resumed",
        "source_refusing": "source_recovered",
        "source_incomplete": "source_recovered",
        "journal_filling": "journal_recovered",
        "journal_full": "journal_recovered",
        "database_failing": "journal_recovered",
        "erasure_failing": "erasure_recovered",
        "certificate_expiring": "certificate_renewed",
        "certificate_expired": "certificate_renewed",
        "worker_lost": "worker_recovered",
    }
)
"""The entry that ends a condition, by the kind of the condition. For all other kinds it is `recovered`."""

ENTRIES: Final = MappingProxyType(
    {
        "started": "relay began to run; it says how the run before ended",
        "stopped": "relay was stopped",
        "reloaded": "a reload has brought another configuration into force",
        "config_changed": "conf.d says something else than the configuration in force",
        "resumed": "an admin had a connector go on, or try again at once",
        "recovered": "a connector works again",
        "expired": "events had to leave the journal before a connector got them",
        "source_recovered": "the source takes events again",
        "journal_recovered": "the journal has room, or the database can be written again",
        "certificate_renewed": "a certificate is good again, for long enough",
        "worker_recovered": "a worker runs again",
        "erasure_recovered": "erasures that failed are done, or fail no more",
        "erasure_requested": "somebody, or an event, asked for a user to be erased",
        "erased": "an erasure is done",
        "replay_started": "somebody asked for a replay",
        "replay_done": "a replay has come to its end",
        "replay_cancelled": "somebody ended a replay",
        "parked_dropped": "somebody removed parked events",
        "parked_replayed": "somebody had parked events delivered once more",
        "refused": "a client of the admin API, such as a console, refused an action to its user",
        "forgotten": "somebody had relay forget a connector",
        "accepted": "somebody accepted the journal or the clock as it is",
        "repaired": "somebody had a damaged journal repaired",
        "restored": "the state folder was made of a backup",
        "copied": "somebody had the journal copied here, from a state folder or from PostgreSQL",
    }
)
"""Entries of the history, by kind."""

ALERTED: Final = MappingProxyType({**CONDITIONS, "expired": ENTRIES["expired"]})
"""Kinds that an alert can report: every condition, and for a day lost events."""

KINDS: Final = MappingProxyType({**CONDITIONS, **ENTRIES})
"""Every kind that an entry of the history can have."""


def find_family(kind: str) -> str:
    """Return the family of a kind. A kind without a family is its own."""
    return FAMILIES.get(kind, kind)
