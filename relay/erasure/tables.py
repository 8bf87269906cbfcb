"""Takes users' events out of the tables: parked events, and what answers to attempts say. A part of a transaction.

A parked event of theirs counts as erased instead of parked, in the same transaction. Others stay; where a reason, an
answer, the history or a message of an alert names one of the users, "..." stands for the id.
"""

import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final

from relay.api import User
from relay.journal import LISTS, NOBODY, Wanted
from relay.state import (
    Counts,
    Cursor,
    ParkedRow,
    add_counts,
    alerts,
    attempted_connectors,
    change_parked,
    clear_answers,
    count_as_erased,
    delete_parked,
    history,
    load_cursor,
    parked_connectors,
    read_answers,
    read_bodies,
    read_rows,
)

NOTHING: Final = Counts()


class TableErasure:
    """What one connector, or with None the sources, have of these users."""

    def __init__(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> None:
        """`offsets`: where in the journal events of theirs were."""
        self._connector, self._wanted, self._offsets = connector, wanted, offsets
        self._sorted = sorted(offsets)
        self._named_in = lru_cache(10_000)(wanted.named_in)  # answers are much alike
        self._counts: dict[str, Counter[int]] = {"parked": Counter(), "unreadable": Counter(), "attempts": Counter()}

    def __call__(self, db: sqlite3.Connection) -> Counts:
        """Do it; return by how much the counts of the connector's cursor have changed."""
        gone: list[ParkedRow] = []
        left: set[int | None] = set()
        """Offsets of events of which anything stays."""
        changes: list[tuple[str, object, int]] = []
        for row in read_rows(db, self._connector):
            if whose := self._whose(row):
                gone.append(row)
                self._counts["parked" if self._connector else "unreadable"].update(whose)
            else:
                left.add(None if row.replay else row.offset)
                changes += self._changed(row)
        delete_parked(db, [row.number for row in gone])
        for column, value, number in changes:
            change_parked(db, column, value, number)
        self._erase_attempts(db)
        if self._connector is None:
            history.hide_users(db, self._wanted)
            alerts.hide_users(db, self._wanted)
        add_counts(db, self._counts)
        return self._correct(db, {row.offset for row in gone if row.replay is None} - left)

    def _whose(self, row: ParkedRow) -> frozenset[int]:
        whose = self._wanted.whose(row.body)
        if self._connector is None:
            return whose | self._wanted.named_in(row.body.decode(errors="replace"))
        return (
            whose | self._offsets.get(-1 if row.offset is None else row.offset, NOBODY) | self._wanted.by_key(row.key)
        )

    def _changed(self, row: ParkedRow) -> list[tuple[str, object, int]]:
        """What is to be changed of a parked event that stays."""
        texts = {name: getattr(row, name) for name in ("reason", "answer") if self._named_in(getattr(row, name))}
        found: list[tuple[str, object, int]] = [(n, self._wanted.hide(text), row.number) for n, text in texts.items()]
        if row.type in LISTS:
            body, named = self._wanted.without(row.type, row.body)
            found += [("body", body, row.number)] if named else []
        return found

    def _erase_attempts(self, db: sqlite3.Connection) -> None:
        """Answers to attempts at their events, or that name them, go; that there were attempts stays."""
        gone: list[int] = []
        for row, ranges, answer in read_answers(db, self._connector):
            if whose := self._named_in(answer) | self._in(ranges):
                gone.append(row)
                self._counts["attempts"].update(whose)
        clear_answers(db, gone)

    def _in(self, ranges: Sequence[tuple[int, int]]) -> frozenset[int]:
        return NOBODY.union(
            *(
                self._offsets[offset]
                for start, stop in ranges
                for offset in self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, stop)]
            )
        )

    def _correct(self, db: sqlite3.Connection, gone: Collection[int | None]) -> Counts:
        """Count events at these offsets as erased that the cursor counted as parked; what a replay had parked is in its
        own ledgers."""
        cursor = load_cursor(db, self._connector)
        if cursor is None:
            return NOTHING
        events = sum(_is_counted(cursor, offset) for offset in gone)
        count_as_erased(db, self._connector, events)
        return Counts(parked=-events, erased=events)


def _is_counted(cursor: Cursor, offset: int | None) -> bool:
    return offset is not None and cursor.start <= offset and cursor.is_settled(offset)


def parked_ids(db: sqlite3.Connection, wanted: Wanted) -> dict[int, User]:
    """The ids that these users have in their parked events."""
    return wanted.more_ids(read_bodies(db))


def strangers(db: sqlite3.Connection, running: Sequence[str]) -> list[str]:
    """The connectors that do not run but have events put aside, or notes of attempts."""
    return sorted((parked_connectors(db) | attempted_connectors(db)).difference(running))
