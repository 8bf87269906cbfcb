"""The history: what happened, when, and by whom. The table `history` of the first worker's database, limited by age and
number.

relay writes here, and commands do if no relay runs. Nothing waits for an entry; an entry may be lost instead.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Final

from relay.api.internal import cut
from relay.state.database_file import connect, convert_errors
from relay.state.erasure.table import ErasureResult, find_done_by_admins, read_results
from relay.state.journal_state import read_ahead
from relay.state.layout import list_worker_folders
from relay.state.replays import read_replays
from relay.store import Entry, HistoryQuery, Wanted
from relay.words import format_count

MOST_CHARS: Final = 4000
"""Characters of a sentence, at most."""
_COLUMNS: Final = "kind, subject, sentence, done_by, about, at, number"
_ADD: Final = "INSERT INTO history (kind, subject, sentence, done_by, about, at) VALUES (?, ?, ?, ?, ?, ?)"
_TOO_OLD: Final = "DELETE FROM history WHERE at < ?"
_TOO_MANY: Final = "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?"
_QUERY: Final = f"""
    SELECT {_COLUMNS} FROM history
    WHERE (:since IS NULL OR at >= :since) AND (:kind IS NULL OR kind = :kind)
    AND (:subject IS NULL OR :subject IN (subject, substr(subject, instr(subject, ' ') + 1)))
    ORDER BY number DESC LIMIT :limit
"""  # noqa: S608
_LAST_RUN: Final = """
    SELECT kind, at FROM history WHERE kind IN ('started', 'stopped', 'restored') ORDER BY number DESC LIMIT 1
"""


class FolderHistory:
    """The history of a state folder: in the first worker's database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @convert_errors()
    def add(self, entries: Sequence[Entry], keep: float = 0.0, most: int = 0) -> None:
        rows = [
            (one.kind, one.subject, cut(one.sentence, MOST_CHARS), one.by, json.dumps(dict(one.about)), one.at)
            for one in entries
        ]
        with closing(connect(self._folder, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_ADD, rows)
            if keep:
                db.execute(_TOO_OLD, (time.time() - keep - read_ahead(db),))  # not because the clock is ahead
            if most:
                db.execute(_TOO_MANY, (most,))
            db.execute("COMMIT")

    @convert_errors()
    def read(self, query: HistoryQuery | None = None) -> list[Entry]:
        with closing(connect(self._folder, "ro")) as db:
            rows = db.execute(_QUERY, asdict(query or HistoryQuery())).fetchall()
        return [
            Entry(kind, subject, sentence, by, json.loads(about), at, number)
            for kind, subject, sentence, by, about, at, number in reversed(rows)
        ]

    @convert_errors()
    def find_last_run(self) -> tuple[str, float] | None:
        with closing(connect(self._folder, "ro")) as db:  # after a restore nothing has crashed: the copied relay ran on
            row = db.execute(_LAST_RUN).fetchone()
        return None if row is None else (row[0], row[1])

    @convert_errors()
    def find_done(self, since: float) -> list[Entry]:
        known = {(one.kind, one.about.get("number")) for one in self.read(HistoryQuery(since=since))}
        found = [*_done_replays(self._folder, since), *_done_erasures(self._folder, since)]
        return sorted((one for one in found if (one.kind, one.about["number"]) not in known), key=lambda one: one.at)


def hide_users(db: sqlite3.Connection, wanted: Wanted) -> None:
    """Put "..." for every id of these users: answers of destinations may name them. Part of a transaction."""
    rows = db.execute("SELECT sentence, about, number FROM history").fetchall()
    hidden = [
        (wanted.hide(said), json.dumps(wanted.hide_in(json.loads(about))), number) for said, about, number in rows
    ]
    changed = [after for before, after in zip(rows, hidden, strict=True) if before != after]
    db.executemany("UPDATE history SET sentence = ?, about = ? WHERE number = ?", changed)


def _done_replays(folder: Path, since: float) -> Iterator[Entry]:
    for mine in list_worker_folders(folder).values():
        with closing(connect(mine, "ro")) as db:
            found = read_replays(db, f"ended >= {since!r}")
        for one in found:
            counts = {name: number for name, number in asdict(one.cursor.counts).items() if number}
            said = ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "it had no events"
            sentence = f"replay {one.number} of {one.connector} is done: {said}"
            about = {"number": one.number, "asked_by": one.asked_by, **counts}
            yield Entry("replay_done", f"connector {one.connector}", sentence, about=about, at=one.ended or 0.0)


def _done_erasures(folder: Path, since: float) -> Iterator[Entry]:
    folders = [*list_worker_folders(folder).values()]
    done: dict[int, list[ErasureResult]] = {}
    for mine in folders:
        with closing(connect(mine, "ro")) as db:
            done |= {number: [] for number in find_done_by_admins(db, since)}
    for mine in folders:
        with closing(connect(mine, "ro")) as db:
            for one in read_results(db, done):
                done[one.number].append(one)
    for number, results in done.items():
        ended = [one.done for one in results]
        if None not in ended:  # in every worker
            events, parked = sum(one.events for one in results), sum(one.parked for one in results)
            sentence = f"erasure {number} is done: {format_count(events, 'event')} and {parked:,} parked removed"
            about = {"number": number, "asked_by": results[0].asked_by, "events": events, "parked": parked}
            yield Entry("erased", f"erasure {number}", sentence, about=about, at=max(one or 0.0 for one in ended))
