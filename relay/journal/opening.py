"""Opens a state folder: its database, and the journal that belongs to it."""

from pathlib import Path
from typing import Final

import structlog

from relay.journal.identity import ANY, Known
from relay.journal.journal import Journal
from relay.journal.retention import Limits
from relay.journal.seen import forget_seen
from relay.journal.state import State
from relay.words import counted

UNKNOWN_ADVICE: Final = "connectors begin with the oldest event: what they had is delivered twice, nothing is lost"
log = structlog.stdlib.get_logger()


def open_both(folder: Path, journal: Path, number: int, limits: Limits, memory: int) -> tuple[Journal, State]:
    """Open the database of the worker with this number, in its folder, and its journal. Blocking.

    Raises OSError, sqlite3.Error, identity.OtherJournal (the journal is not the database's)."""
    state = State(folder, number)
    try:
        opened = Journal(journal, limits, memory, state.known)
        doubt = _introduced(state, opened)
    except BaseException:
        state.close()
        raise
    if doubt:
        forget_seen(folder, ())  # ids of events that are lost: those would be taken for duplicates when they come again
    return opened, state


def _introduced(state: State, journal: Journal) -> str:
    """Have the database belong to the journal; return what is wrong with the two, "" if nothing is."""
    known, doubt = state.known, journal.problem
    state.now, state.clock = journal.head, journal.clock
    if known is None:
        state.now = journal.oldest
        if events := journal.head - journal.oldest:
            doubt = (
                f"relay.db did not know the {counted(events, 'event')} of the journal"
                " (it was lost, emptied, or copied without relay.db-wal), and began anew"
            )
            log.error("relay.db does not know the journal", events=events, oldest=state.now, advice=UNKNOWN_ADVICE)
    elif known.identity != ANY:
        state.now = min(known.head, journal.head)
    state.meet(Known(journal.identity, journal.head, journal.clock.now()), doubt)
    return doubt
