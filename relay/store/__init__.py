"""The values of the place where events and books are kept."""

from relay.store.alert_message import MESSAGES_KEPT, AlertMessage, Tracks
from relay.store.attempts import Attempts
from relay.store.block import make_block
from relay.store.clock import DAY_S, Clock
from relay.store.cursor import OUTCOMES, Counts, Cursor, Ledger, find_unsettled, make_ranges, merge_ranges, values
from relay.store.damage import AT_MOST, Damage, describe_damage, is_bound, merge_overlapping
from relay.store.doubt import Doubt
from relay.store.erasure import (
    ConnectorAnswer,
    Erasure,
    Erasures,
    FailingErasures,
    Stage,
    make_digest,
    make_digests,
    make_user,
    merge_receipts,
)
from relay.store.error import TooLarge, Unavailable, UnavailableReason
from relay.store.history import Entry, HistoryQuery
from relay.store.ledger import LaneLedger, Range, Refusals, SourceLedger, find_acknowledged_head
from relay.store.log import ErasedStretch, EventIds, JournalLimits, Log, LogReader, Wants
from relay.store.log_view import LogSurvey, LogView
from relay.store.parked import (
    CAUSES,
    ROW_BYTES,
    SETTINGS,
    Parked,
    ParkedLimits,
    ParkedQuery,
    ParkedRow,
    ParkedTotal,
    Reason,
    Removals,
    RemovedParked,
    measure_parked,
    sum_totals,
)
from relay.store.pause import Pause
from relay.store.replay import Replay
from relay.store.state import CutLines, State
from relay.store.users import LISTS, NOBODY, Erased, Wanted, find_user, merge_users

__all__ = [
    "AT_MOST",
    "CAUSES",
    "DAY_S",
    "LISTS",
    "MESSAGES_KEPT",
    "NOBODY",
    "OUTCOMES",
    "ROW_BYTES",
    "SETTINGS",
    "AlertMessage",
    "Attempts",
    "Clock",
    "ConnectorAnswer",
    "Counts",
    "Cursor",
    "CutLines",
    "Damage",
    "Doubt",
    "Entry",
    "Erased",
    "ErasedStretch",
    "Erasure",
    "Erasures",
    "EventIds",
    "FailingErasures",
    "HistoryQuery",
    "JournalLimits",
    "LaneLedger",
    "Ledger",
    "Log",
    "LogReader",
    "LogSurvey",
    "LogView",
    "Parked",
    "ParkedLimits",
    "ParkedQuery",
    "ParkedRow",
    "ParkedTotal",
    "Pause",
    "Range",
    "Reason",
    "Refusals",
    "Removals",
    "RemovedParked",
    "Replay",
    "SourceLedger",
    "Stage",
    "State",
    "TooLarge",
    "Tracks",
    "Unavailable",
    "UnavailableReason",
    "Wanted",
    "Wants",
    "describe_damage",
    "find_acknowledged_head",
    "find_unsettled",
    "find_user",
    "is_bound",
    "make_block",
    "make_digest",
    "make_digests",
    "make_ranges",
    "make_user",
    "measure_parked",
    "merge_overlapping",
    "merge_ranges",
    "merge_receipts",
    "merge_users",
    "sum_totals",
    "values",
]
