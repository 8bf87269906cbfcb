"""The durable log and the state that goes with it: append, read, park, cursors with the ledger, retention."""

from relay.journal.books import ledger
from relay.journal.cursor import Counts, Cursor, Ledger, unsettled
from relay.journal.journal import Journal, Reader, Unavailable
from relay.journal.parked import Parked, Which, count_parked, drop_parked, look_at_parked, mark_parked, parked
from relay.journal.retention import Limits
from relay.journal.segment import Corrupt
from relay.journal.state import State

__all__ = [
    "Corrupt",
    "Counts",
    "Cursor",
    "Journal",
    "Ledger",
    "Limits",
    "Parked",
    "Reader",
    "State",
    "Unavailable",
    "Which",
    "count_parked",
    "drop_parked",
    "ledger",
    "look_at_parked",
    "mark_parked",
    "parked",
    "unsettled",
]
