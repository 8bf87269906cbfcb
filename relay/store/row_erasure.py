"""Finds what tables lose when users are erased: parked events, and the answers to attempts. Pure.

Reasons and answers stay, with "..." in place of the users' ids.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from relay.store.cursor import Cursor
from relay.store.parked import ParkedRow
from relay.store.users import LISTS, NOBODY, Wanted


class ParkedErasure(NamedTuple):
    """What parked events lose."""

    removed: Sequence[int]
    """Numbers of events that are removed."""
    changes: Sequence[tuple[str, object, int]]
    """Column, value and number of each change to an event that stays."""
    emptied: set[int | None]
    """Offsets at which the lane has no parked event any more. A replay has its own ledger."""

    def count_settled(self, cursor: Cursor) -> int:
        """Return how many of these offsets a cursor counts as parked."""
        return sum(one is not None and cursor.start <= one and cursor.is_settled(one) for one in self.emptied)


class RowErasure:
    """Erases users from the rows of one connector, or with None from the sources' rows."""

    def __init__(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> None:
        """`offsets`: the users by offset of their events in the log."""
        self._connector, self._wanted, self._offsets = connector, wanted, offsets
        self._sorted = sorted(offsets)
        self._named_in = lru_cache(10_000)(wanted.find_named)  # answers are much alike
        self.counts: dict[str, Counter[int]] = {"parked": Counter(), "unreadable": Counter(), "attempts": Counter()}
        """What was found of each erasure, by its number."""

    def find_parked(self, rows: Iterable[ParkedRow]) -> ParkedErasure:
        """Find the users' parked events, and the users in the events that stay."""
        removed: list[ParkedRow] = []
        left: set[int | None] = set()
        """Offsets of which a parked event stays."""
        changes: list[tuple[str, object, int]] = []
        for row in rows:
            whose = self._wanted.find_numbers(row.body)
            if self._connector is None:
                whose |= self._wanted.find_named(row.body.decode(errors="replace"))
            else:
                whose |= self._offsets.get(-1 if row.offset is None else row.offset, NOBODY)
                whose |= self._wanted.find_by_key(row.key)
            if whose:
                removed.append(row._replace(body=b""))
                self.counts["parked" if self._connector else "unreadable"].update(whose)
            else:
                left.add(None if row.replay else row.offset)
                changes += self._list_changes(row)
        emptied = {row.offset for row in removed if row.replay is None} - left
        return ParkedErasure([row.number for row in removed], changes, emptied)

    def _list_changes(self, row: ParkedRow) -> list[tuple[str, object, int]]:
        texts = {name: getattr(row, name) for name in ("reason", "answer") if self._named_in(getattr(row, name))}
        found: list[tuple[str, object, int]] = [(n, self._wanted.hide(text), row.number) for n, text in texts.items()]
        if row.type in LISTS:
            body, named = self._wanted.remove_users(row.type, row.body)
            found += [("body", body, row.number)] if named else []
        return found

    def find_answers(self, answers: Iterable[tuple[int, Sequence[tuple[int, int]], str]]) -> list[int]:
        """Find the answers that are about the users' events, or name the users: row, offsets, text."""
        found: list[int] = []
        for row, ranges, answer in answers:
            whose = self._named_in(answer)
            for start, stop in ranges:
                offsets = self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, stop)]
                whose = whose.union(*(self._offsets[offset] for offset in offsets))
            if whose:
                found.append(row)
                self.counts["attempts"].update(whose)
        return found
