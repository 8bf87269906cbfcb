"""Parked events (dead letters): their table, totals, limits and retention."""

from relay.state.parked.table import (
    _MARKED,
    FolderParked,
    add_parked,
    change_parked,
    delete_delivered,
    delete_parked,
    detach_from_journal,
    find_parked_at,
    has_marked,
    read_bodies,
    read_keys,
    read_marked,
    read_parked_connectors,
    read_parked_offsets,
    read_places,
    read_ranges,
    read_rows,
)
from relay.state.parked.totals import read_worker_totals

__all__ = [
    "_MARKED",
    "FolderParked",
    "add_parked",
    "change_parked",
    "delete_delivered",
    "delete_parked",
    "detach_from_journal",
    "find_parked_at",
    "has_marked",
    "read_bodies",
    "read_keys",
    "read_marked",
    "read_parked_connectors",
    "read_parked_offsets",
    "read_places",
    "read_ranges",
    "read_rows",
    "read_worker_totals",
]
