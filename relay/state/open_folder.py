"""Opens a state folder: its database, and the journal that belongs to it."""

from pathlib import Path
from typing import Final

import structlog

from relay.journal import ANY, Journal, JournalView, KnownJournal, forget_seen
from relay.state.database import StateDatabase
from relay.state.journal_state import describe_older_database, read_acknowledged
from relay.state.layout import SEEN
from relay.state.ledger import read_lanes_if_any
from relay.store import JournalLimits, describe_missed
from relay.words import format_count

UNKNOWN_ADVICE: Final = "connectors begin with the oldest event: what they had is delivered twice, nothing is lost"
OLDER_ADVICE: Final = (
    "connectors go on where this relay.db has them, and those it does not know begin where it ends: what they had is"
    " delivered twice, nothing is lost; put the right one back, or: relay accept journal"
)
LATEST_SAVE_S: Final = 60.0
log = structlog.stdlib.get_logger()


def open_both(
    folder: Path, journal: Path, number: int, limits: JournalLimits, memory: int
) -> tuple[Journal, StateDatabase]:
    """Open the database and the journal of the worker with this number. Blocking.

    Raises OSError, sqlite3.Error, and identity.OtherJournal if the journal is not the database's.
    """
    state = StateDatabase(folder, number)
    try:
        opened = Journal(journal, limits, memory, state.known, seen=folder / SEEN)
        doubt = _adopt_journal(state, opened)
    except BaseException:
        state.close()
        raise
    state.thread.when_taken = opened.fence
    if doubt:
        forget_seen(folder / SEEN, ())  # events that are lost would be taken for duplicates when they come again
    return opened, state


def _adopt_journal(state: StateDatabase, journal: Journal) -> str:
    """Bind the database to the journal; return what is wrong with the two, "" without a fault."""
    known, doubt = state.known, journal.problem
    state.now, state.clock, unheard = journal.head, journal.clock, None
    if known is None:
        state.now = journal.oldest
        if events := journal.head - journal.oldest:
            doubt = (
                f"relay.db did not know the {format_count(events, 'event')} of the journal"
                f" from offset {journal.oldest} on, and began anew"
                " (it was lost, emptied, or copied without relay.db-wal);"
                " parked events, pauses and replays of the old relay.db are not in the new one;"
                " no event of the journal is lost; connectors begin with its oldest event,"
                " and deliver a second time what they had"
            )
            unheard = state.now
            log.error("relay.db does not know the journal", events=events, oldest=state.now, advice=UNKNOWN_ADVICE)
    elif known.identity != ANY:
        state.now = min(known.head, journal.head)
        if journal.hole and journal.hole.start <= state.now:
            state.now = journal.head
        if _is_older(known, journal):
            doubt, unheard = describe_older_database(known.head, journal.head), known.head
            log.error("relay.db is older than the journal", problem=doubt, advice=OLDER_ADVICE)
    if known is not None and known.unheard is not None:
        state.now = min(state.now, known.unheard)
    if known is not None:
        doubt += _describe_loss(state.folder, known, journal)
    damage = journal.unsaved_damage
    found = KnownJournal(journal.identity, journal.head, journal.clock.now(), unheard, run=journal.run)
    state.adopt_journal(found, doubt, damage)
    journal.drop_saved_damage(len(damage))
    journal.fill_hole()
    return doubt


def _describe_loss(folder: Path, known: KnownJournal, journal: Journal) -> str:
    """Describe which connectors lose events by the missing end of the journal; return "" if none is missing."""
    head = max(known.head, journal.stopped or 0)
    if journal.hole is None or journal.hole.start >= head:
        return ""
    return f"; {describe_missed(read_lanes_if_any(folder), journal.hole.start, head)}"


def _is_older(known: KnownJournal, journal: Journal) -> bool:
    """Return whether a database lacks events that it must know: all after a clean stop, else those a minute old."""
    if journal.stopped is not None:
        return known.head < journal.stopped
    is_guess = journal.newest is None or bool(journal.problem or journal.clock.ahead)
    return not is_guess and known.head < journal.head and (journal.newest or 0.0) > known.time + LATEST_SAVE_S


def view_journal(folder: Path, journal: Path) -> JournalView:
    """Open a worker's journal for reading from outside; `folder` has its database.

    Raises FileNotFoundError, OSError, sqlite3.Error.
    """
    return JournalView(journal, read_acknowledged(folder))
