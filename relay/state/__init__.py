"""The state folder: its layout and `relay.db`. One module holds the SQL of one table.

relay knows the state folder as a `relay.store.Store`: see `StateFolder`. Everything else of this face is for
`relay.inspect`, which copies, restores and repairs the files.
"""

from relay.state.cursor import read_saved_positions
from relay.state.cuts import CUTS, read_cuts, write_cuts
from relay.state.damage import mark_repaired
from relay.state.database_file import VERSION, connect, connect_file, convert_errors, enable_shrinking
from relay.state.disk_usage import measure_journals
from relay.state.journal_state import (
    advise_on_error,
    change_identity,
    find_missing_end,
    find_worker_doubts,
    has_tables,
    raise_head,
    read_acknowledged,
    read_known_journal,
)
from relay.state.layout import (
    BAR,
    DATABASE,
    MARKER,
    SEEN,
    WORKERS,
    advise_on_restore,
    find_bar,
    give_ownership,
    list_journals,
    make_journal_folder,
    make_worker_folder,
    read_bar,
    read_marker,
)
from relay.state.ledger import read_lanes_if_any
from relay.state.migrations import make_tables
from relay.state.plugin_store import EmbeddedStores, StoreFile, read_stores, write_stores
from relay.state.state_folder import StateFolder

__all__ = [
    "BAR",
    "CUTS",
    "DATABASE",
    "MARKER",
    "SEEN",
    "VERSION",
    "WORKERS",
    "EmbeddedStores",
    "StateFolder",
    "StoreFile",
    "advise_on_error",
    "advise_on_restore",
    "change_identity",
    "connect",
    "connect_file",
    "convert_errors",
    "enable_shrinking",
    "find_bar",
    "find_missing_end",
    "find_worker_doubts",
    "give_ownership",
    "has_tables",
    "list_journals",
    "make_journal_folder",
    "make_tables",
    "make_worker_folder",
    "mark_repaired",
    "measure_journals",
    "raise_head",
    "read_acknowledged",
    "read_bar",
    "read_cuts",
    "read_known_journal",
    "read_lanes_if_any",
    "read_marker",
    "read_saved_positions",
    "read_stores",
    "write_cuts",
    "write_stores",
]
