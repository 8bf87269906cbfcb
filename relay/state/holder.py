"""Which relay has opened the database last, and how often relay has started with the journal: the table `holder`.

The lock of the state folder keeps two relays apart. A network file system may not honour the lock, and somebody may
remove its file. So each start with database and journal raises the epoch, and each transaction checks the epoch: a
relay stops writing as soon as another relay has started. A start that fails, for instance at the lock of the journal,
raises no epoch. Commands of admins write at any time, and raise no epoch.
"""

import os
import socket
import sqlite3
import time

from relay.store import Unavailable
from relay.words import format_time


def take_hold(db: sqlite3.Connection, run: int) -> int:
    """Make this process the holder; return its epoch. `run`: the number of this start with the journal."""
    query = """
        INSERT INTO holder (one, epoch, since, host, process, run) VALUES (1, 1, ?, ?, ?, ?)
        ON CONFLICT (one) DO UPDATE SET epoch = epoch + 1, since = excluded.since, host = excluded.host,
        process = excluded.process, run = excluded.run, closed = 0 RETURNING epoch
    """
    ((epoch,),) = db.execute(query, (time.time(), socket.gethostname(), os.getpid(), run)).fetchall()
    return int(epoch)


def read_last_run(db: sqlite3.Connection) -> tuple[int, bool]:
    """Return the number of the last start with the journal, and whether that run has closed the journal."""
    run, closed = db.execute("SELECT run, closed FROM holder").fetchone() or (0, 0)
    return int(run), bool(closed)


def mark_closed(db: sqlite3.Connection) -> None:
    """Mark that the holder has closed the journal."""
    db.execute("UPDATE holder SET closed = 1")


def check_hold(db: sqlite3.Connection, epoch: int | None) -> None:
    """Raise Unavailable if another relay has opened the database after the holder with this epoch."""
    row = db.execute("SELECT since, host, process FROM holder WHERE epoch > ?", (epoch,)).fetchone()
    if row is not None:
        since, host, process = row
        raise Unavailable(
            f"another relay has opened relay.db at {format_time(since)} (process {process} on {host}), and only the"
            " other one writes now: stop one of the two, and restart this one if it is to stay",
            "taken",
        )
