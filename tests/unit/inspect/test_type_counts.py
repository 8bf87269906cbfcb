"""Counting event types reads each part of a journal once, the newest part first, for a limited time."""

import math
import time
from collections.abc import Iterator

import pytest

from relay.api import Block, Event, Kind
from relay.api.event import ERASED
from relay.inspect import type_counts
from relay.inspect.type_counts import count_types, merge_counts
from relay.store import UnreadPart

DAY = 86_400.0
PARTS = [UnreadPart("old", 0, DAY - 1, "1"), UnreadPart("middle", 2, 2 * DAY, "2"), UnreadPart("new", 4, math.inf, "")]


class OneLog:
    """A store with a log of three parts, each with an event of its own type, a common one and a tombstone."""

    number, problems = 0, ()

    def __init__(self) -> None:
        self.read_parts: list[str] = []

    def view_all(self) -> "list[OneLog]":
        return [self]

    def view_log(self) -> "OneLog":
        return self

    def list_parts(self) -> list[UnreadPart]:
        return PARTS

    def read(self, start: int = 0, since: float = 0.0) -> Iterator[tuple[str, Block]]:
        for number, part in enumerate(PARTS):
            if part.base >= start:
                if part.base == start:
                    self.read_parts.append(part.name)
                kinds = [Kind("braze", "every"), Kind("braze", part.name), ERASED]
                yield part.name, Block.of([Event(b"{}", kind, part.base, number * DAY + 60) for kind in kinds])


def test_a_closed_part_is_read_once_and_only_for_its_time() -> None:
    store = OneLog()
    first = count_types(store, DAY, {})
    assert store.read_parts == ["new", "middle"]
    known = {part.key: part.stamp for part in first.counted}
    again = count_types(store, 0.0, known | {"0 middle": "2"})
    assert store.read_parts == ["new", "middle", "new", "old"]
    assert again.present == ["0 old", "0 middle", "0 new"]
    counts = merge_counts([*first.counted, again.counted[1]], 0.0, again.unread, ())
    found = {one.type: (one.events, one.last, dict(one.days)) for one in counts.types}
    assert found["every"] == (3, 2 * DAY + 60, {"1970-01-01": 1, "1970-01-02": 1, "1970-01-03": 1})
    assert found.keys() == {"every", "old", "middle", "new"}
    late = merge_counts([*first.counted, again.counted[1]], DAY, None, ())
    assert {one.type: one.events for one in late.types} == {"every": 2, "middle": 1, "new": 1}


def test_counts_say_from_when_on_they_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_counts, "READ_S", -1.0)
    found = count_types(OneLog(), 0.0, {})
    assert (found.counted, found.unread) == ([], pytest.approx(time.time(), abs=600))
    monkeypatch.setattr(type_counts, "READ_S", 60.0)
    assert merge_counts((), 0.0, 2 * DAY, ()).complete_since == 2 * DAY
    assert count_types(OneLog(), 0.0, {}).unread is None
