"""Whether a worker that is no longer wanted has left anything to do in its folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

from relay.state import connect, has_marked, has_open_erasures, has_open_replays, has_tables, read_lane_ledgers


def has_work(folder: Path) -> bool:
    """Whether there are events to deliver, replays or erasures to be done. Nobody knows if the database is gone: then
    the worker has to look. Raises sqlite3.Error."""
    if not has_tables(folder):
        return True
    with closing(connect(folder, "ro")) as db:
        return any(lane.ledger.pending for lane in read_lane_ledgers(folder)) or is_asked(db)


def is_asked(db: sqlite3.Connection) -> bool:
    """Whether anything was asked for that is not done."""
    return has_open_replays(db) or has_marked(db) or has_open_erasures(db)
