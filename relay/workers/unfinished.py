"""Whether a worker that is no longer wanted has left anything to do in its folder."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from relay.state import connect, has_tables, read_lane_ledgers

_ASKED: Final = """
    SELECT EXISTS (SELECT 1 FROM replay WHERE ended IS NULL AND cancelled IS NULL)
        OR EXISTS (SELECT 1 FROM parked WHERE again IS NOT NULL)
        OR EXISTS (SELECT 1 FROM erasure WHERE done IS NULL)
"""


def has_work(folder: Path) -> bool:
    """Whether there are events to deliver, replays or erasures to be done. Nobody knows if the database is gone: then
    the worker has to look. Raises sqlite3.Error."""
    if not has_tables(folder):
        return True
    with closing(connect(folder, "ro")) as db:
        return any(lane.ledger.pending for lane in read_lane_ledgers(folder)) or is_asked(db)


def is_asked(db: sqlite3.Connection) -> bool:
    """Whether anything was asked for that is not done."""
    return bool(db.execute(_ASKED).fetchone()[0])
