"""The durable log and the state that goes with it: append, read, park, cursors with the ledger, retention."""

from relay.journal.cursor import Counts, Cursor, Ledger, unsettled
from relay.journal.journal import Journal, Reader, Unavailable
from relay.journal.retention import Limits
from relay.journal.segment import Corrupt
from relay.journal.state import Parked, State, ledger, parked

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
    "ledger",
    "parked",
    "unsettled",
]
