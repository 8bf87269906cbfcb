"""The history: what happened, when, and by whom. The table `history` of the first worker's database, limited by age and
number.

relay writes here, and commands do if no relay runs. Nothing waits for an entry; an entry may be lost instead.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import starmap
from pathlib import Path
from typing import Final

from msgspec.structs import asdict

from relay.state.database_file import connect, convert_errors
from relay.state.erasure.table import find_done_by_admins, read_results
from relay.state.journal_state import read_ahead
from relay.state.layout import list_worker_folders
from relay.state.replays import read_replays
from relay.store import (
    ENTRY_COLUMNS,
    Entry,
    ErasureResult,
    HistoryQuery,
    Replay,
    Wanted,
    encode_entry,
    find_new_entries,
    parse_entry,
)

_ADD: Final = f"INSERT INTO history ({ENTRY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
_TOO_OLD: Final = "DELETE FROM history WHERE at < ?"
_TOO_MANY: Final = "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?"
_QUERY: Final = f"""
    SELECT {ENTRY_COLUMNS}, number FROM history
    WHERE (:since IS NULL OR at >= :since) AND (:kind IS NULL OR kind = :kind)
    AND (
        :subject IS NULL OR :subject IN (subject, substr(subject, instr(subject, ' ') + 1))
        OR EXISTS (
            SELECT 1 FROM json_each(about, '$.changed') WHERE :subject IN (value, substr(value, instr(value, ' ') + 1))
        )
    )
    ORDER BY at DESC, number DESC LIMIT :limit
"""  # noqa: S608
_LAST_RUN: Final = """
    SELECT kind, at FROM history WHERE kind IN ('started', 'stopped', 'restored', 'copied') ORDER BY number DESC LIMIT 1
"""


class FolderHistory:
    """The history of a state folder: in the first worker's database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @convert_errors()
    def add(self, entries: Sequence[Entry], keep: float = 0.0, most: int = 0) -> None:
        with closing(connect(self._folder, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_ADD, map(encode_entry, entries))
            if keep:
                db.execute(_TOO_OLD, (time.time() - keep - read_ahead(db),))  # not because the clock is ahead
            if most:
                db.execute(_TOO_MANY, (most,))
            db.execute("COMMIT")

    @convert_errors()
    def read(self, query: HistoryQuery | None = None) -> list[Entry]:
        with closing(connect(self._folder, "ro")) as db:
            rows = db.execute(_QUERY, asdict(query or HistoryQuery())).fetchall()
        return [*starmap(parse_entry, reversed(rows))]

    @convert_errors()
    def find_last_run(self) -> tuple[str, float] | None:
        with closing(connect(self._folder, "ro")) as db:  # what was restored or copied here has not crashed here
            row = db.execute(_LAST_RUN).fetchone()
        return None if row is None else (row[0], row[1])

    @convert_errors()
    def find_done(self, since: float) -> list[Entry]:
        replays: list[Replay] = []
        folders = [*list_worker_folders(self._folder).values()]
        done: set[int] = set()
        for mine in folders:
            with closing(connect(mine, "ro")) as db:
                replays += read_replays(db, f"ended >= {since!r}")
                done.update(find_done_by_admins(db, since))
        results: list[ErasureResult] = []
        for mine in folders:
            with closing(connect(mine, "ro")) as db:
                results += read_results(db, done)
        return find_new_entries(replays, results, self.read(HistoryQuery(since=since)))


def hide_users(db: sqlite3.Connection, wanted: Wanted) -> None:
    """Put "..." for every id of these users: answers of destinations may name them. Part of a transaction."""
    rows = db.execute("SELECT sentence, about, number FROM history").fetchall()
    hidden = [(wanted.hide(said), wanted.hide_in_json(about), number) for said, about, number in rows]
    changed = [after for before, after in zip(rows, hidden, strict=True) if before != after]
    db.executemany("UPDATE history SET sentence = ?, about = ? WHERE number = ?", changed)
