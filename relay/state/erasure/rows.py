"""Removes users' events from the rows of all tables: parked events, and the answers to attempts. Part of a transaction.

A removed parked event counts as erased instead of parked, in the same transaction. Reasons, answers, history and alert
messages stay, with "..." in place of the users' ids.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from relay.state import alerts, history
from relay.state.attempts import clear_answers, read_answers, read_attempted_connectors
from relay.state.cursor import count_as_erased, load_cursor
from relay.state.erasure.table import add_counts
from relay.state.parked import change_parked, delete_parked, read_parked_connectors, read_rows
from relay.store import Counts, RowErasure, Wanted


def erase_users(
    db: sqlite3.Connection, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]
) -> Counts:
    """Erase users from the rows of one connector, or with None from the sources' rows; return the change of the counts
    in the connector's cursor. `offsets`: the users by offset of their events in the journal."""
    erasure = RowErasure(connector, wanted, offsets)
    parked = erasure.find_parked(read_rows(db, connector))
    delete_parked(db, parked.removed)
    for column, value, number in parked.changes:
        change_parked(db, column, value, number)
    clear_answers(db, erasure.find_answers(read_answers(db, connector)))
    if connector is None:
        history.hide_users(db, wanted)
        alerts.hide_users(db, wanted)
    add_counts(db, erasure.counts)
    cursor = load_cursor(db, connector)
    if cursor is None:
        return Counts()
    events = parked.count_settled(cursor)
    count_as_erased(db, connector, events)
    return Counts(parked=-events, erased=events)


def find_removed_connectors(db: sqlite3.Connection, running: Sequence[str]) -> list[str]:
    """Find the connectors that do not run but have parked events or attempts."""
    return sorted((read_parked_connectors(db) | read_attempted_connectors(db)).difference(running))
