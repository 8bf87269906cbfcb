"""Removes users' events from the rows of all tables: parked events, and the answers to attempts. Part of a transaction.

A removed parked event counts as erased instead of parked, in the same transaction. Reasons, answers, history and alert
messages stay, with "..." in place of the users' ids.
"""

import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from relay.state import alerts, history
from relay.state.attempts import clear_answers, read_answers, read_attempted_connectors
from relay.state.cursor import count_as_erased, load_cursor
from relay.state.erasure.table import add_counts
from relay.state.parked import change_parked, delete_parked, read_parked_connectors, read_rows
from relay.store import LISTS, NOBODY, Counts, ParkedRow, Wanted

NOTHING: Final = Counts()


class RowErasure:
    """Erases users from the rows of one connector, or with None from the sources' rows."""

    def __init__(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> None:
        """`offsets`: the users by offset of their events in the journal."""
        self._connector, self._wanted, self._offsets = connector, wanted, offsets
        self._sorted = sorted(offsets)
        self._named_in = lru_cache(10_000)(wanted.find_named)  # answers are much alike
        self._counts: dict[str, Counter[int]] = {"parked": Counter(), "unreadable": Counter(), "attempts": Counter()}

    def __call__(self, db: sqlite3.Connection) -> Counts:
        """Erase the users; return the change of the counts in the connector's cursor."""
        emptied = self._erase_parked(db)
        cleared: list[int] = []
        """Attempts whose answer is about the users' events, or names the users. Only the answer is removed."""
        for row, ranges, answer in read_answers(db, self._connector):
            whose = self._named_in(answer)
            for start, stop in ranges:
                offsets = self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, stop)]
                whose = whose.union(*(self._offsets[offset] for offset in offsets))
            if whose:
                cleared.append(row)
                self._counts["attempts"].update(whose)
        clear_answers(db, cleared)
        if self._connector is None:
            history.hide_users(db, self._wanted)
            alerts.hide_users(db, self._wanted)
        add_counts(db, self._counts)
        cursor = load_cursor(db, self._connector)
        if cursor is None:
            return NOTHING
        events = sum(offset is not None and cursor.start <= offset and cursor.is_settled(offset) for offset in emptied)
        count_as_erased(db, self._connector, events)
        return Counts(parked=-events, erased=events)

    def _erase_parked(self, db: sqlite3.Connection) -> set[int | None]:
        """Remove the users' parked events, and the users from the events that stay.

        Return the offsets at which the lane had parked events and has none now. A replay has its own ledger.
        """
        removed: list[ParkedRow] = []
        left: set[int | None] = set()
        """Offsets of which a parked event stays."""
        changes: list[tuple[str, object, int]] = []
        for row in read_rows(db, self._connector):
            whose = self._wanted.find_numbers(row.body)
            if self._connector is None:
                whose |= self._wanted.find_named(row.body.decode(errors="replace"))
            else:
                whose |= self._offsets.get(-1 if row.offset is None else row.offset, NOBODY)
                whose |= self._wanted.find_by_key(row.key)
            if whose:
                removed.append(row)
                self._counts["parked" if self._connector else "unreadable"].update(whose)
            else:
                left.add(None if row.replay else row.offset)
                changes += self._list_changes(row)
        delete_parked(db, [row.number for row in removed])
        for column, value, number in changes:
            change_parked(db, column, value, number)
        return {row.offset for row in removed if row.replay is None} - left

    def _list_changes(self, row: ParkedRow) -> list[tuple[str, object, int]]:
        """List the changes to a parked event that stays: column, value, number."""
        texts = {name: getattr(row, name) for name in ("reason", "answer") if self._named_in(getattr(row, name))}
        found: list[tuple[str, object, int]] = [(n, self._wanted.hide(text), row.number) for n, text in texts.items()]
        if row.type in LISTS:
            body, named = self._wanted.remove_users(row.type, row.body)
            found += [("body", body, row.number)] if named else []
        return found


def find_removed_connectors(db: sqlite3.Connection, running: Sequence[str]) -> list[str]:
    """Find the connectors that do not run but have parked events or attempts."""
    return sorted((read_parked_connectors(db) | read_attempted_connectors(db)).difference(running))
