"""The state folder: its layout and `relay.db`. One module holds the SQL of one table.

relay knows the state folder as a `relay.store.Store`: see `StateFolder`. Everything else of this face is for
`relay.inspect`, which copies, restores and repairs the files.
"""

from relay.state.cursor import read_saved_positions
from relay.state.cuts import CUTS
from relay.state.damage import mark_repaired
from relay.state.database_file import VERSION, connect_file, convert_errors
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
    DATABASE,
    MARKER,
    SEEN,
    WORKERS,
    advise_on_restore,
    list_journals,
    make_journal_folder,
    make_worker_folder,
    read_marker,
)
from relay.state.ledger import read_lanes_if_any
from relay.state.plugin_store import EmbeddedStores, StoreFile
from relay.state.state_folder import StateFolder

__all__ = [
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
    "connect_file",
    "convert_errors",
    "find_missing_end",
    "find_worker_doubts",
    "has_tables",
    "list_journals",
    "make_journal_folder",
    "make_worker_folder",
    "mark_repaired",
    "measure_journals",
    "raise_head",
    "read_acknowledged",
    "read_known_journal",
    "read_lanes_if_any",
    "read_marker",
    "read_saved_positions",
]
