"""Replays: requests to deliver a range of the journal once more, and their progress.

An admin's command writes the request, and the lane of the replay saves its cursor here. Functions with a database are
parts of transactions.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import starmap
from pathlib import Path

from relay.state.database_file import connect, convert_errors
from relay.state.layout import list_worker_folders, make_worker_folder
from relay.store import OUTCOMES, REPLAY_COLUMNS, Cursor, Replay, encode_cursor, parse_replay


class FolderReplays:
    """The replays of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @convert_errors()
    def ask(self, replay: Replay, partition: int = 0) -> int:
        query = """
            INSERT INTO replay (connector, start, position, stop, entries, rate, asked, asked_by)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """
        start, entries = replay.cursor.start, json.dumps(replay.entries)
        values = (replay.connector, start, start, replay.stop, entries, replay.rate, replay.asked, replay.asked_by)
        with closing(connect(make_worker_folder(self._folder, partition), "rw")) as db:
            return db.execute(query, values).lastrowid or 0

    @convert_errors()
    def cancel(self, number: int) -> bool:
        query = "UPDATE replay SET cancelled = ? WHERE number = ? AND ended IS NULL AND cancelled IS NULL"
        for mine in list_worker_folders(self._folder).values():
            with closing(connect(mine, "rw")) as db:
                if db.execute(query, (time.time(), number)).rowcount:
                    return True
        return False

    @convert_errors()
    def read(self) -> list[Replay]:
        found = []
        for mine in list_worker_folders(self._folder).values():
            with closing(connect(mine, "ro")) as db:
                found += read_replays(db, "TRUE")
        return sorted(found, key=lambda replay: replay.asked, reverse=True)


def find_replays_over(folder: Path, offset: int) -> list[Replay]:
    """Return the replays of one worker with this offset in their range, the last one first."""
    with closing(connect(folder, "ro")) as db:
        return read_replays(db, f"start <= {offset:d} AND stop > {offset:d}")


def read_replays(db: sqlite3.Connection, condition: str) -> list[Replay]:
    """Read the replays for which an SQL condition holds, the last one first."""
    query = f"SELECT {REPLAY_COLUMNS} FROM replay WHERE {condition} ORDER BY number DESC"  # noqa: S608
    return [*starmap(parse_replay, db.execute(query))]


def has_open_replays(db: sqlite3.Connection) -> bool:
    """Return whether a replay runs or waits."""
    query = "SELECT EXISTS (SELECT 1 FROM replay WHERE ended IS NULL AND cancelled IS NULL)"
    return bool(db.execute(query).fetchone()[0])


def cancel_replays(db: sqlite3.Connection) -> None:
    """Cancel every replay that runs or waits."""
    db.execute("UPDATE replay SET cancelled = unixepoch() WHERE ended IS NULL AND cancelled IS NULL")


def delete_replays_of(db: sqlite3.Connection, connector: str) -> None:
    """Delete all replays of a connector."""
    db.execute("DELETE FROM replay WHERE connector = ?", (connector,))


def save_replays(db: sqlite3.Connection, cursors: Mapping[int, Cursor]) -> None:
    """Save the progress of replays."""
    now = time.time()
    sets = ", ".join(f"{name} = ?" for name in OUTCOMES)
    query = f"""
        UPDATE replay SET position = ?, ahead = ?, {sets}, saved = ?, ended = iif(? >= stop, ?, NULL) WHERE number = ?
    """  # noqa: S608
    db.executemany(
        query,
        [
            (*encode_cursor(one)[1:], now, one.position, now, number)  # without the start, which never changes
            for number, one in cursors.items()
        ],
    )
