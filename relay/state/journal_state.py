"""What a database knows of its journal (table `journal_state`), and the doubts that an admin has to know of.

Doubts arise from a database that does not know the journal (lost, emptied, or copied without its write-ahead log), and
from a journal that has lost acknowledged events. They last until an admin accepts them: `FolderDoubts`.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

from relay.journal import (
    ANY,
    BEHIND_ALL,
    KnownJournal,
    describe_mismatch,
    find_journal_end,
    is_locked,
    list_segment_files,
    make_empty_journal,
    read_end,
)
from relay.state.attempts import delete_attempts
from relay.state.cursor import delete_cursors
from relay.state.damage import delete_damage, mark_accepted, read_damage
from relay.state.database_file import connect, connect_file, convert_errors
from relay.state.erasure.table import search_again
from relay.state.layout import DATABASE, list_journals, list_worker_folders
from relay.state.ledger import read_lanes_if_any
from relay.state.parked import detach_from_journal
from relay.state.replays import cancel_replays
from relay.store import (
    ON_CLOCK,
    ON_LOSSES,
    Doubt,
    Unavailable,
    describe_damage,
    describe_missed,
    find_acknowledged_head,
    list_doubts,
)
from relay.words import format_count

MISSING_ADVICE: Final = "put it back, or start relay, which delivers all events of the journal then"
CURE: Final = (
    "it is damaged: put a backup of it in its place, or move relay.db, relay.db-wal and relay.db-shm away. relay then"
    " makes a new one, and connectors begin with the oldest event of the journal; parked events are not in the new one"
)
_READ: Final = "SELECT identity, head, time, unheard, accepted FROM journal_state"
_MEET: Final = """
    INSERT INTO journal_state (one, identity, head, time, unheard, doubt) VALUES (1, ?, ?, ?, ?, ?)
    ON CONFLICT (one) DO UPDATE SET identity = excluded.identity, head = max(head, excluded.head),
    time = max(time, excluded.time), doubt = iif(excluded.doubt != '', excluded.doubt, doubt),
    unheard = coalesce(min(unheard, excluded.unheard), unheard, excluded.unheard)
"""
_NO_DOUBT: Final = "UPDATE journal_state SET unheard = NULL WHERE doubt = ''"
_NOTE: Final = "UPDATE journal_state SET head = max(head, ?), time = max(time, ?), ahead = ?"


def advise_on_error(error: sqlite3.Error) -> str:
    """Return the advice for a database that gives this error; "" if its file is not to blame."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return CURE if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else ""


def has_tables(folder: Path) -> bool:
    """Return whether a folder has a database with tables. Raises sqlite3.Error."""
    path = folder / DATABASE
    if not path.exists():
        return False
    with closing(connect_file(path, "ro")) as db:
        return db.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None


def describe_older_database(head: int, end: int) -> str:
    """Describe a database that knows the events below `head` of a journal that goes up to `end`."""
    why = "an old copy was put back, or it could not be written"
    events = f"the last {format_count(end - head, 'event')}, from offset {head} on"
    lost = "no event is lost, connectors may get some a second time; later pauses and replays are not in it"
    return f"relay.db is older than the journal: it has not heard of {events} ({why}); {lost}"


def read_known_journal(db: sqlite3.Connection) -> KnownJournal | None:
    """Return what a database knows of its journal; None: it knows no journal."""
    row = db.execute(_READ).fetchone()
    return None if row is None else KnownJournal(*row)


def adopt_journal(db: sqlite3.Connection, known: KnownJournal, doubt: str) -> None:
    """Make the database belong to this journal. `doubt`: what is wrong with the two; "" changes no doubt.

    A database that knows no journal forgets all offsets.
    """
    if read_known_journal(db) is None:
        _delete_offsets(db)
    db.execute(_MEET, (known.identity, known.head, known.time, known.unheard, doubt))
    db.execute(_NO_DOUBT)


def _delete_offsets(db: sqlite3.Connection) -> None:
    """Delete all offsets, because they mean other events now."""
    delete_cursors(db)
    delete_attempts(db)
    delete_damage(db)
    detach_from_journal(db)
    cancel_replays(db)
    search_again(db)


def save_head(db: sqlite3.Connection, head: int, time: float, ahead: float) -> None:
    """Save that events below `head` are acknowledged, at this trusted time. The clock is `ahead` seconds ahead."""
    db.execute(_NOTE, (head, time, ahead))


def read_ahead(db: sqlite3.Connection) -> float:
    """Return the seconds by which the clock is ahead of what can be right; 0 if the database knows no journal."""
    (ahead,) = db.execute("SELECT ifnull(max(ahead), 0) FROM journal_state").fetchone()
    return float(ahead)


def raise_head(db: sqlite3.Connection, head: int) -> int:
    """Mark all events below `head` as acknowledged; return the head."""
    db.execute("UPDATE journal_state SET head = max(head, ?)", (head,))
    (raised,) = db.execute("SELECT ifnull(max(head), ?) FROM journal_state", (head,)).fetchone()
    return int(raised)


def change_identity(db: sqlite3.Connection, identity: str, now: float) -> None:
    """Give the journal another identity, and accept the clock. `now`: Unix seconds."""
    query = "UPDATE journal_state SET identity = ?, time = max(time, ?), accepted = ?, ahead = 0"
    db.execute(query, (identity, now, now))


def read_acknowledged(folder: Path) -> int:
    """Read the offset below which all events are acknowledged; 0 without a database. Raises sqlite3.Error."""
    try:
        with closing(connect(folder, "ro")) as db:
            known = read_known_journal(db)
    except FileNotFoundError:
        return 0
    return max(known.head if known else 0, find_acknowledged_head(read_lanes_if_any(folder)))


class FolderDoubts:
    """The doubts of a state folder: of the databases and journals of all workers."""

    def __init__(self, folder: Path, path: Path) -> None:
        """`path`: the setting `journal.path`."""
        self._folder, self._path = folder, path

    @convert_errors()
    def find(self) -> list[Doubt]:
        found = list_journals(self._folder, self._path).items()
        return [one for number, (folder, journal) in found for one in find_worker_doubts(number, folder, journal)]

    @convert_errors()
    def describe_accepting(self, what: Literal["journal", "clock"]) -> str:
        if what == "clock":
            return ON_CLOCK
        found = list_journals(self._folder, self._path).values()
        others = [journal for folder, journal in found if _find_mismatch(folder, journal)]
        if any(map(list_segment_files, others)):
            return "accepting this journal has every connector get all events of it"
        if others:
            places = " and ".join(map(str, others))
            return (
                f"accepting makes an empty journal in {places}: offsets go on behind all that were given, connectors go"
                " on with new events, and events that they had not got count as damaged"
            )
        return ON_LOSSES

    @convert_errors()
    def accept(self, what: Literal["journal", "clock"]) -> list[str]:
        if what == "journal":
            return self._accept_journals()
        for folder in [one for one in list_worker_folders(self._folder).values() if has_tables(one)] or [self._folder]:
            with closing(connect(folder, "rw")) as db:
                db.execute(
                    "UPDATE journal_state SET time = max(time, :now), accepted = :now, ahead = 0", {"now": time.time()}
                )
        return []

    def _accept_journals(self) -> list[str]:
        """Accept the journals as they are; return what was done, a sentence for each other journal.

        An empty folder becomes the database's journal. A journal without a database is no reason not to accept the
        other journals.
        """
        found = list_journals(self._folder, self._path).values()
        if running := [journal for folder, journal in found if is_locked(folder) and _find_mismatch(folder, journal)]:
            raise Unavailable(
                f"{running[0]} is not the journal with which relay runs: stop relay, then accept the journal"
            )
        done = [_accept(folder, journal) for folder, journal in found]
        without = [folder for (folder, _), one in zip(found, done, strict=True) if one is None]
        if without:
            names = " and ".join(str(folder / DATABASE) for folder in without)
            raise Unavailable(
                f"{names} cannot note that: start relay, which makes a new one, and accept it once relay runs"
            )
        return [one for one in done if one]


def find_worker_doubts(worker: int, folder: Path, journal: Path) -> Iterator[Doubt]:
    """Find the doubts of one worker, whose folder and journal these are. Raises sqlite3.Error, OSError."""
    holds_events = bool(list_segment_files(journal))
    if not has_tables(folder):
        if holds_events:
            said = f"{folder / DATABASE} is gone or empty, but {journal} holds events: {MISSING_ADVICE}"
            yield Doubt(worker=worker, what="journal", said=said)
        return
    with closing(connect(folder, "ro")) as db:
        known = read_known_journal(db)
        ahead, doubt = db.execute("SELECT ahead, doubt FROM journal_state").fetchone() or (0, "")
        damage = describe_damage(read_damage(db), is_bound=BEHIND_ALL in doubt)
    if known is None:
        if holds_events:
            said = f"{folder / DATABASE} does not know the events that {journal} holds: {MISSING_ADVICE}"
            yield Doubt(worker=worker, what="journal", said=said)
        return
    if why := describe_mismatch(journal, known):
        missed = "" if holds_events else f"; {describe_missed(read_lanes_if_any(folder), 0, known.head)}"
        yield Doubt(worker=worker, what="journal", said=f"{why}{missed}")
    elif known.identity != ANY and (end := read_end(journal)) and end.head > known.head:
        yield Doubt(worker=worker, what="journal", said=describe_older_database(known.head, end.head))
    yield from list_doubts(worker, doubt, damage, ahead)


def find_missing_end(folder: Path, journal: Path) -> str:
    """Find what a journal lacks of the events that its database knows, before relay starts with it; return "" without
    any. Raises sqlite3.Error, OSError."""
    if is_locked(folder) or not has_tables(folder) or _find_mismatch(folder, journal):
        return ""
    end, known = find_journal_end(journal), read_acknowledged(folder)
    if end >= known:
        return ""
    missed = describe_missed(read_lanes_if_any(folder), end, known)
    return f"offsets {end} to {known - 1} are missing: the journal ends before them; {missed}"


def _find_mismatch(folder: Path, journal: Path) -> str:
    """Describe why the journal cannot be that of the database in a folder; return "" if it can be."""
    if not has_tables(folder):
        return ""
    with closing(connect(folder, "ro")) as db:
        return describe_mismatch(journal, read_known_journal(db))


def _accept(folder: Path, journal: Path) -> str | None:
    """Accept the journal of a worker; return a sentence if it is another one, and None if there is only the journal."""
    if not has_tables(folder):
        return None if list_segment_files(journal) else ""
    with closing(connect(folder, "rw")) as db:
        known = read_known_journal(db)
        is_other = bool(describe_mismatch(journal, known))
        if is_other and list_segment_files(journal):
            db.execute("BEGIN IMMEDIATE")
            _delete_offsets(db)
            db.execute("UPDATE journal_state SET identity = ?, doubt = '', unheard = 0", (ANY,))
            db.execute("COMMIT")
            return f"all events in {journal} are new to every connector"
        if is_other and known is not None:
            make_empty_journal(journal, known.identity, folder)
        db.execute("UPDATE journal_state SET doubt = '', unheard = NULL")
        mark_accepted(db)
    if is_other:
        return f"{journal} is an empty journal now; once relay runs, relay status says what is lost"
    return "" if known is not None or not list_segment_files(journal) else None
