"""The durable log and the state that goes with it: append, read, park, cursors with the ledger, retention."""

from relay.journal.attempts import Attempts
from relay.journal.books import Refusals, SourceBooks, ledger
from relay.journal.cursor import Counts, Cursor, Ledger, runs, unsettled
from relay.journal.forgetting import Forgotten, forget_connector
from relay.journal.journal import Journal, TooLarge, Unavailable
from relay.journal.parked import (
    CAUSES,
    Parked,
    ParkedTotal,
    Which,
    count_parked,
    drop_in_portions,
    drop_parked,
    look_at_parked,
    mark_in_portions,
    mark_parked,
    parked,
    parked_totals,
)
from relay.journal.parked_limits import ParkedLimits
from relay.journal.parking import tidy_parking
from relay.journal.pauses import Pause, pause_connector, pauses, resume_connector
from relay.journal.reader import Reader
from relay.journal.replays import Replay
from relay.journal.retention import JournalLimits
from relay.journal.seen import Seen, forget_seen
from relay.journal.segment import Corrupt
from relay.journal.state import State

__all__ = [
    "CAUSES",
    "Attempts",
    "Corrupt",
    "Counts",
    "Cursor",
    "Forgotten",
    "Journal",
    "JournalLimits",
    "Ledger",
    "Parked",
    "ParkedLimits",
    "ParkedTotal",
    "Pause",
    "Reader",
    "Refusals",
    "Replay",
    "Seen",
    "SourceBooks",
    "State",
    "TooLarge",
    "Unavailable",
    "Which",
    "count_parked",
    "drop_in_portions",
    "drop_parked",
    "forget_connector",
    "forget_seen",
    "ledger",
    "look_at_parked",
    "mark_in_portions",
    "mark_parked",
    "parked",
    "parked_totals",
    "pause_connector",
    "pauses",
    "resume_connector",
    "runs",
    "tidy_parking",
    "unsettled",
]
