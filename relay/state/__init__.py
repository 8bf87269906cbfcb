"""The state folder: its layout and `relay.db`. One module holds the SQL of one table."""

from relay.state.alerts import forget_alerts, read_alerts, save_message, save_tracks
from relay.state.attempts import find_attempts_at
from relay.state.cursor import read_saved_positions
from relay.state.cuts import CUTS
from relay.state.damage import mark_repaired, was_damaged
from relay.state.database import StateDatabase
from relay.state.database_file import LOCKED_S, VERSION, connect, convert_errors
from relay.state.disk_usage import measure_journals
from relay.state.erasure.table import (
    ask_erasure,
    count_erasures,
    find_failing_erasures,
    has_open_erasures,
    list_erasures,
)
from relay.state.history import add_entries, find_done, find_last_run, read_history
from relay.state.journal_state import (
    accept_clock,
    accept_journal,
    advise_on_error,
    change_identity,
    describe_accepting,
    find_doubts,
    find_missing_end,
    find_worker_doubts,
    has_tables,
    raise_head,
    read_acknowledged,
    read_known_journal,
)
from relay.state.layout import (
    DATABASE,
    MARKER,
    SEEN,
    WORKERS,
    advise_on_restore,
    list_journals,
    list_other_folders,
    list_worker_folders,
    make_journal_folder,
    make_worker_folder,
    read_marker,
)
from relay.state.ledger import read_lane_ledgers, read_lanes_if_any, read_ledger, read_source_ledgers
from relay.state.open_folder import open_both, view_journal
from relay.state.parked import (
    count_parked,
    drop_in_portions,
    drop_parked,
    find_parked_at,
    has_marked,
    list_parked,
    mark_in_portions,
    mark_parked,
    read_parked,
    read_parked_offsets,
    read_parked_totals,
    read_worker_totals,
)
from relay.state.pauses import pause_connector, resume_connector
from relay.state.plugin_store import STORES, EmbeddedStores, StoreFile
from relay.state.replays import ask_replay, cancel_replay, find_replays_over, has_open_replays, list_replays
from relay.state.state_folder import StateFolder

__all__ = [
    "CUTS",
    "DATABASE",
    "LOCKED_S",
    "MARKER",
    "SEEN",
    "STORES",
    "VERSION",
    "WORKERS",
    "EmbeddedStores",
    "StateDatabase",
    "StateFolder",
    "StoreFile",
    "accept_clock",
    "accept_journal",
    "add_entries",
    "advise_on_error",
    "advise_on_restore",
    "ask_erasure",
    "ask_replay",
    "cancel_replay",
    "change_identity",
    "connect",
    "convert_errors",
    "count_erasures",
    "count_parked",
    "describe_accepting",
    "drop_in_portions",
    "drop_parked",
    "find_attempts_at",
    "find_done",
    "find_doubts",
    "find_failing_erasures",
    "find_last_run",
    "find_missing_end",
    "find_parked_at",
    "find_replays_over",
    "find_worker_doubts",
    "forget_alerts",
    "has_marked",
    "has_open_erasures",
    "has_open_replays",
    "has_tables",
    "list_erasures",
    "list_journals",
    "list_other_folders",
    "list_parked",
    "list_replays",
    "list_worker_folders",
    "make_journal_folder",
    "make_worker_folder",
    "mark_in_portions",
    "mark_parked",
    "mark_repaired",
    "measure_journals",
    "open_both",
    "pause_connector",
    "raise_head",
    "read_acknowledged",
    "read_alerts",
    "read_history",
    "read_known_journal",
    "read_lane_ledgers",
    "read_lanes_if_any",
    "read_ledger",
    "read_marker",
    "read_parked",
    "read_parked_offsets",
    "read_parked_totals",
    "read_saved_positions",
    "read_source_ledgers",
    "read_worker_totals",
    "resume_connector",
    "save_message",
    "save_tracks",
    "view_journal",
    "was_damaged",
]
