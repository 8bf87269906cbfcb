"""Finds out whether a surplus worker has left anything to do in its folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

from relay.state import connect, has_marked, has_open_erasures, has_open_replays, has_tables, read_lane_ledgers


def has_work(folder: Path) -> bool:
    """Return whether events, replays or erasures remain. Assume so without a database. Raises sqlite3.Error."""
    if not has_tables(folder):
        return True
    with closing(connect(folder, "ro")) as db:
        return any(lane.ledger.pending for lane in read_lane_ledgers(folder)) or is_asked(db)


def is_asked(db: sqlite3.Connection) -> bool:
    """Return whether any request is not done."""
    return has_open_replays(db) or has_marked(db) or has_open_erasures(db)
