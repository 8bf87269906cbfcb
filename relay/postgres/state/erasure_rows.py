"""Removes users' events from the rows of all tables: parked events, and the answers to attempts. Part of a transaction.

A removed parked event counts as erased instead of parked, in the same transaction. Reasons, answers, history and alert
messages stay, with "..." in place of the users' ids.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.postgres.state import alerts, history
from relay.postgres.state.attempts import clear_answers, read_answers, read_attempted_connectors
from relay.postgres.state.cursor import count_as_erased, load_cursor
from relay.postgres.state.erasure_progress import add_counts
from relay.postgres.state.parked import change_parked, delete_parked, read_parked_connectors, read_rows
from relay.store import Counts, RowErasure, Wanted

PERSONAL: Final = {
    "parked": "parked_pkey",
    "attempt": "attempt_pkey",
    "erasure": "erasure_pkey",
    "erasure_answer": "erasure_answer_pkey",
    "identity": "identity_user",
    "history": "history_pkey",
    "alert_message": "alert_message_pkey",
}
"""The tables with personal data, each with an index."""


def erase_users(
    db: PostgresConnection,
    partition: int,
    connector: str | None,
    wanted: Wanted,
    offsets: Mapping[int, frozenset[int]],
) -> Counts:
    """Erase users from the rows of one connector, or with None from the sources' rows; return the change of the counts
    in the connector's cursor. `offsets`: the users by offset of their events in the log."""
    erasure = RowErasure(connector, wanted, offsets)
    parked = erasure.find_parked(read_rows(db, partition, connector))
    delete_parked(db, partition, parked.removed)
    for column, value, number in parked.changes:
        change_parked(db, partition, column, value, number)
    clear_answers(db, partition, erasure.find_answers(read_answers(db, partition, connector)))
    if connector is None:
        history.hide_users(db, wanted)
        alerts.hide_users(db, wanted)
    add_counts(db, partition, erasure.counts)
    cursor = load_cursor(db, partition, connector)
    if cursor is None:
        return Counts()
    events = parked.count_settled(cursor)
    count_as_erased(db, partition, connector, events)
    return Counts(parked=-events, erased=events)


def find_removed_connectors(db: PostgresConnection, partition: int, running: Sequence[str]) -> list[str]:
    """Find the connectors that do not run but have parked events or attempts."""
    found = read_parked_connectors(db, partition) | read_attempted_connectors(db, partition)
    return sorted(found.difference(running))
