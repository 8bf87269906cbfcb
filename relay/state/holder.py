"""Which relay has opened the database last, and how often relay has started with the journal: the table `holder`.

The lock of the state folder keeps two relays apart. A network file system may not honour the lock, and somebody may
remove its file. So each opening raises the epoch, and each transaction checks the epoch: a relay stops writing as soon
as another relay has opened the database. Commands of admins write at any time, and raise no epoch.
"""

import os
import socket
import sqlite3
import time

from relay.store import Unavailable
from relay.words import format_time


def take_hold(db: sqlite3.Connection) -> int:
    """Make this process the holder; return its epoch."""
    query = """
        INSERT INTO holder (one, epoch, since, host, process) VALUES (1, 1, ?, ?, ?)
        ON CONFLICT (one) DO UPDATE SET epoch = epoch + 1, since = excluded.since, host = excluded.host,
        process = excluded.process RETURNING epoch
    """
    ((epoch,),) = db.execute(query, (time.time(), socket.gethostname(), os.getpid())).fetchall()
    return int(epoch)


def read_run(db: sqlite3.Connection) -> int:
    """Return the number of starts with the journal."""
    return int(db.execute("SELECT run FROM holder").fetchone()[0])


def save_run(db: sqlite3.Connection, run: int) -> None:
    """Save the number of starts with the journal."""
    db.execute("UPDATE holder SET run = ?", (run,))


def check_hold(db: sqlite3.Connection, epoch: int) -> None:
    """Raise Unavailable if another relay has opened the database after the holder with this epoch."""
    row = db.execute("SELECT since, host, process FROM holder WHERE epoch > ?", (epoch,)).fetchone()
    if row is not None:
        since, host, process = row
        raise Unavailable(
            f"another relay has opened relay.db at {format_time(since)} (process {process} on {host}), and only the"
            " other one writes now: stop one of the two, and restart this one if it is to stay",
            "taken",
        )
