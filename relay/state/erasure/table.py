"""Erasures: requests to remove all events of a user, and their receipts.

relay writes a row when it notices a request. The row keeps the user's ids until everything is done, and then only their
digests: whoever knows an id can find its receipts. Functions with a folder work whether relay runs or not. They raise
FileNotFoundError if no relay has run there, and sqlite3.Error. The other functions are parts of the daemon's
transactions.

With several workers the first worker gives the request its number, and each worker has a row of that number: all of
them erase the user. A worker that learns another id of the user writes the id into all rows (`share_erasures`). The
first worker calls the connectors. In the rows of the others, a connector's answer only says whether that worker can
still write events of the user there.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from relay.api import User
from relay.journal import is_locked
from relay.state.database_file import connect, convert_errors
from relay.state.layout import list_other_folders, list_worker_folders
from relay.store import (
    ERASURE_COLUMNS,
    ConnectorAnswer,
    Erasure,
    ErasureResult,
    FailingErasures,
    encode_ids,
    find_same,
    merge_all,
    merge_users,
    parse_erasures,
)

_ASK: Final = """
    INSERT INTO erasure (number, asked, type, source, offset, asked_by, user_id, external_ids, other_ids, digests)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_AGAIN: Final = """
    UPDATE erasure
    SET user_id = ?, external_ids = ?, other_ids = ?, digests = ?, compacted = NULL, done = NULL, counted = 0
    WHERE number = ?
"""
_FORGET_DONE: Final = "DELETE FROM erasure_answer WHERE number = ? AND outcome IN ('done', 'skipped')"
_ANSWERED: Final = """
    INSERT INTO erasure_answer VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT DO UPDATE
    SET outcome = excluded.outcome, reason = excluded.reason, attempts = attempts + 1, at = excluded.at
"""
_FORGET_PAIRS: Final = """
    WITH gone AS (
        SELECT user_id, external_ids FROM erasure
        WHERE number IN (SELECT value FROM json_each(?)) AND compacted NOT NULL
    )
    DELETE FROM identity
    WHERE user_id IN (SELECT user_id FROM gone)
       OR external_id IN (SELECT value FROM gone, json_each(external_ids))
"""
"""Deletes the identities of a user id, and those that name one of the user's external ids."""
_AT_CONNECTORS: Final = """
    SELECT connector, count(*), min(coalesce(compacted, asked)), reason  -- SQLite: the reason of that minimum's row
    FROM erasure JOIN erasure_answer USING (number)
    WHERE done IS NULL AND outcome = 'failed' GROUP BY connector ORDER BY connector
"""
_HERE: Final = "SELECT number, asked, problem FROM erasure WHERE done IS NULL AND problem NOT NULL"
_COUNT_ASKED: Final = "SELECT count(*) FROM erasure WHERE number > ? AND type NOT NULL"
_COUNT_DONE: Final = "SELECT count(*) FROM erasure WHERE done >= ? AND type NOT NULL"


class FolderErasures:
    """The erasures of a state folder: in the databases of all workers."""

    out_of_reach = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @convert_errors()
    def ask(self, user: User, asked_by: str = "") -> int:
        with closing(connect(self._folder, "rw")) as db:
            db.execute("PRAGMA synchronous = FULL")
            return add_erasure(db, Erasure(asked=time.time(), user=user, asked_by=asked_by))

    @convert_errors()
    def read(self) -> list[Erasure]:
        found: list[tuple[int, Erasure]] = []
        for worker, mine in list_worker_folders(self._folder).items():
            with closing(connect(mine, "ro")) as db:
                found += [(worker, one) for one in read_erasures(db)]
        return merge_all(found)

    @convert_errors()
    def find_failing(self) -> list[FailingErasures]:
        here: dict[int, tuple[float, str]] = {}
        for mine in list_worker_folders(self._folder).values():
            with closing(connect(mine, "ro")) as db:
                here |= {number: (asked, problem) for number, asked, problem in db.execute(_HERE)}
        with closing(connect(self._folder, "ro")) as db:
            at_connectors = find_failing_at_connectors(db)
        return [*([FailingErasures(None, len(here), *min(here.values()))] if here else []), *at_connectors]

    @convert_errors()
    def count(self, after: int, since: float) -> tuple[int, int, int]:
        with closing(connect(self._folder, "ro")) as db:
            (asked,) = db.execute(_COUNT_ASKED, (after,)).fetchone()
            (done,) = db.execute(_COUNT_DONE, (since,)).fetchone()
            (last,) = db.execute("SELECT ifnull(max(number), 0) FROM erasure").fetchone()
        return asked, done, last


def find_held_elsewhere(folder: Path, connector: str, numbers: Collection[int]) -> dict[int, bool]:
    """Find the erasures that a connector must not get yet, because another running worker may still write there.

    Return by number whether the thread of that worker hangs. `folder` is the first worker's.
    """
    held: dict[int, bool] = {}
    for other in filter(is_locked, list_other_folders(folder, 0)):
        with closing(connect(other, "ro")) as db:
            for one in read_erasures(db, "done IS NULL"):
                if one.number in numbers and (one.compacted is None or one.lacks(connector)):
                    held[one.number] = held.get(one.number, False) or one.failed_at(connector)
    return held


def forget_failed(db: sqlite3.Connection) -> None:
    """Delete all failed answers of connectors."""
    db.execute("DELETE FROM erasure_answer WHERE outcome = 'failed'")


def share_erasures(folder: Path, users: Sequence[Erasure]) -> None:
    """Make another worker erase these users, too. An erasure with new ids begins again there."""
    with closing(connect(folder, "rw")) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        known = {one.number: one for one in read_erasures(db)}
        for one in users:
            other = known.get(one.number)
            if other is None:
                add_erasure(db, one)
            elif not {*one.digests} <= {*other.digests}:
                merged = replace(other, user=merge_users(one.user, other.user))
                db.execute(_AGAIN, (merged.user.user_id, *encode_ids(merged), one.number))
                db.execute(_FORGET_DONE, (one.number,))
        db.execute("COMMIT")


def take_over_requests(folder: Path, first: Path) -> None:
    """Make a worker that opens erase the users of whom only the first worker knows so far.

    Otherwise the worker would deliver the users' events until the first worker's next pass.
    """
    with closing(connect(first, "ro")) as db:
        asked = read_erasures(db, "compacted IS NULL AND done IS NULL")
    if asked:
        share_erasures(folder, asked)


def read_erasures(db: sqlite3.Connection, condition: str = "TRUE") -> list[Erasure]:
    """Read the erasures for which an SQL condition holds, the last one first."""
    query = f"SELECT * FROM erasure_answer WHERE number IN (SELECT number FROM erasure WHERE {condition})"  # noqa: S608
    answers = db.execute(f"{query} ORDER BY connector").fetchall()
    columns = ", ".join(ERASURE_COLUMNS)
    rows = db.execute(f"SELECT {columns} FROM erasure WHERE {condition} ORDER BY number DESC")  # noqa: S608
    return parse_erasures(rows, answers)


def add_erasure(db: sqlite3.Connection, one: Erasure) -> int:
    """Add an erasure; return its number."""
    origin = (one.type, one.source, one.offset, one.asked_by)
    return db.execute(_ASK, (one.number or None, one.asked, *origin, one.user.user_id, *encode_ids(one))).lastrowid or 0


def read_watch_position(db: sqlite3.Connection) -> int | None:
    """Return the offset up to which the journal was searched; None: it never was."""
    row = db.execute("SELECT position FROM watch").fetchone()
    return row[0] if row else None


def save_watch(
    db: sqlite3.Connection, position: int, asked: Iterable[Erasure], known: Iterable[tuple[str, str]]
) -> None:
    """Save the searched position, the requested erasures, and user ids with their external ids."""
    for one in asked:
        add_erasure(db, one)
    db.executemany("INSERT OR IGNORE INTO identity VALUES (?, ?)", known)
    db.execute("REPLACE INTO watch VALUES (1, ?)", (position,))


def find_external_ids(db: sqlite3.Connection, user_id: str | None) -> set[str]:
    """Return the external ids that were saved for a user id."""
    return {one for (one,) in db.execute("SELECT external_id FROM identity WHERE user_id = ?", (user_id,))}


def save_found_ids(db: sqlite3.Connection, found: Mapping[int, User]) -> list[Erasure]:
    """Save the ids of users before relay removes the events that hold the ids. Return the changed erasures."""
    for one in read_erasures(db, "compacted IS NULL"):
        if one.number in found:
            known = replace(one, user=merge_users(one.user, found[one.number]))
            query = "UPDATE erasure SET external_ids = ?, other_ids = ?, digests = ? WHERE number = ?"
            db.execute(query, (*encode_ids(known), one.number))
    return [one for one in read_erasures(db, "compacted IS NULL") if one.number in found]


def add_counts(db: sqlite3.Connection, counts: Mapping[str, Mapping[int, int]], until: int | None = None) -> None:
    """Add to the counts of erasures. With `until`, events below that offset are counted from now on."""
    for name, by_number in counts.items():
        rows = [(count, number) for number, count in by_number.items()]
        db.executemany(f"UPDATE erasure SET {name} = {name} + ? WHERE number = ?", rows)  # noqa: S608
    if until is not None:
        numbers = {number for by_number in counts.values() for number in by_number}
        db.executemany("UPDATE erasure SET counted = max(counted, ?) WHERE number = ?", [(until, n) for n in numbers])


def find_unchanged(db: sqlite3.Connection, before: Sequence[Erasure]) -> list[int]:
    """Return the numbers of the erasures whose ids are the same as before, and that have not begun again."""
    return find_same(before, read_erasures(db, "done IS NULL"))


def mark_erased(db: sqlite3.Connection, users: Sequence[Erasure]) -> None:
    """Mark that journal and tables hold none of these users. Erasures with new ids begin again, and count on."""
    known = find_unchanged(db, users)
    mark_compacted(db, known)
    left = [(one.number,) for one in users if one.number not in known]
    db.executemany("UPDATE erasure SET counted = 0 WHERE number = ?", left)


def mark_compacted(db: sqlite3.Connection, numbers: Collection[int], problem: str | None = None) -> None:
    """Mark that journal and tables hold none of these users; with `problem`, save why the removal failed."""
    when = None if problem else time.time()
    rows = [(when, problem, number) for number in numbers]
    db.executemany("UPDATE erasure SET compacted = ?, problem = ? WHERE number = ?", rows)


def correct_asked(db: sqlite3.Connection, now: float, latest: float) -> None:
    """Set the time of erasures requested later than `latest` to `now`. Times are Unix seconds."""
    db.execute("UPDATE erasure SET asked = ? WHERE asked > ? AND done IS NULL", (now, latest))


def save_answers(db: sqlite3.Connection, answers: Mapping[int, ConnectorAnswer]) -> None:
    """Save the answers of connectors, by the number of the erasure."""
    rows = [(number, one.connector, one.outcome, one.reason, time.time()) for number, one in answers.items()]
    db.executemany(_ANSWERED, rows)


def forget_ids(db: sqlite3.Connection, numbers: Collection[int]) -> None:
    """Delete the ids of these users, which nobody needs any more."""
    db.execute(_FORGET_PAIRS, (json.dumps([*numbers]),))
    nobody = "user_id = NULL, external_ids = '[]', other_ids = '[]'"
    query = f"UPDATE erasure SET {nobody} WHERE number = ? AND compacted NOT NULL"  # noqa: S608
    db.executemany(query, [(number,) for number in numbers])


def mark_done(db: sqlite3.Connection, numbers: Collection[int]) -> None:
    """Mark erasures as done."""
    query = "UPDATE erasure SET done = ? WHERE number = ? AND compacted NOT NULL"
    db.executemany(query, [(time.time(), number) for number in numbers])


def find_failing_at_connectors(db: sqlite3.Connection) -> list[FailingErasures]:
    """Find the erasures that fail at connectors, in the first worker's database. Raises sqlite3.Error."""
    return [FailingErasures(*row) for row in db.execute(_AT_CONNECTORS)]


def has_open_erasures(db: sqlite3.Connection) -> bool:
    """Return whether an erasure is not done."""
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM erasure WHERE done IS NULL)").fetchone()[0])


def search_again(db: sqlite3.Connection) -> None:
    """Search the journal from its beginning for requests, and count the events of open erasures from zero."""
    db.execute("REPLACE INTO watch VALUES (1, 0)")
    db.execute("UPDATE erasure SET counted = 0 WHERE done IS NULL")


def forget_at_connector(db: sqlite3.Connection, connector: str) -> int:
    """Mark the failed erasures of a connector as forgotten there; return their number."""
    query = """
        UPDATE erasure_answer SET outcome = 'forgotten'
        WHERE connector = ? AND outcome = 'failed' AND number IN (SELECT number FROM erasure WHERE done IS NULL)
    """
    return db.execute(query, (connector,)).rowcount


def find_done_by_admins(db: sqlite3.Connection, since: float) -> list[int]:
    """Return the numbers of the erasures that admins requested and that were done from `since` on (Unix seconds)."""
    query = "SELECT number FROM erasure WHERE done >= ? AND type IS NULL"
    return [number for (number,) in db.execute(query, (since,))]


def read_results(db: sqlite3.Connection, numbers: Iterable[int]) -> list[ErasureResult]:
    """Return what a worker removed for these erasures."""
    query = """
        SELECT number, done, events, parked + unreadable, asked_by FROM erasure
        WHERE number IN (SELECT value FROM json_each(?))
    """
    return [*map(ErasureResult._make, db.execute(query, (json.dumps([*numbers]),)))]
