"""Counts the events in the journal by type and hour. Blocking, and changes nothing.

The work is bounded: reading goes from the newest part of the journal back, for READ_S at most, and passes over parts
whose counts are known and cannot have changed. What is missing is counted by the next call.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from msgspec import Struct

from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import LogView, Store, UnreadPart

READ_S: Final = 20.0
HOUR_S: Final = 3600
MOST_TYPES: Final = 1000
"""Types that are told, the most frequent ones; also of each part."""


class PartCount(Struct, frozen=True):
    """The events of a part of the journal."""

    key: str
    """The part, unique over all partitions."""
    stamp: str
    """As `UnreadPart.stamp`."""
    hours: Mapping[int, Mapping[str, int]]
    """The events by type, by the hour in which they were received, from 1970 on."""
    last: Mapping[str, float]
    """When the last event of each type was received, in Unix seconds."""


class FoundCounts(Struct, frozen=True):
    """What a call has counted."""

    counted: Sequence[PartCount]
    """The parts that were read."""
    present: Sequence[str]
    """All parts of the journal."""
    unread: float | None
    """The time of the last event of the parts that are still to be read; None: everything is counted."""
    problems: Sequence[str]


class TypeCount(Struct, frozen=True, kw_only=True):
    """The events of a type."""

    type: str
    events: int
    last: float
    """When the last one was received, in Unix seconds."""
    days: Mapping[str, int]
    """The events by day (UTC), such as "2026-12-02"."""


class JournalTypes(Struct, frozen=True, kw_only=True):
    """The event types in the journal."""

    since: float
    """From when on events count: the begin of an hour, in Unix seconds."""
    complete_since: float
    """From when on all events are counted. If this is later than `since`, relay had no more time: ask again."""
    types: Sequence[TypeCount]
    """The most frequent first."""
    problems: Sequence[str]
    """What could not be read."""


def count_types(
    store: Store, since: float, known: Mapping[str, str], progress: JournalProgress = UNTOLD
) -> FoundCounts:
    """Count the events of all partitions in the parts that may have events of this time on, in Unix seconds.

    `known`: the stamps of the parts that are counted already. Raises Unavailable.
    """
    late, counted, unread = time.monotonic() + READ_S, list[PartCount](), list[float]()
    logs = {view.number: view.view_log() for view in store.view_all()}
    parts = {f"{number} {part.name}": (part, logs[number]) for number, log in logs.items() for part in log.list_parts()}
    for key, (part, log) in sorted(parts.items(), key=lambda one: one[1][0].written, reverse=True):
        if part.written < since or (part.stamp and known.get(key) == part.stamp):
            continue
        if time.monotonic() > late:
            unread.append(min(part.written, time.time()))
        else:
            counted.append(_count_part(log, part, key))
    problems = [problem for log in logs.values() for problem in log.problems]
    return FoundCounts(counted, [*parts], max(unread, default=None), problems)


def _count_part(log: LogView, part: UnreadPart, key: str) -> PartCount:
    hours: defaultdict[int, Counter[str]] = defaultdict(Counter)
    last: dict[str, float] = {}
    for name, block in log.read(part.base):
        if name != part.name:
            break
        hour = hours[int(block.received // HOUR_S)]
        for place, events in Counter(block.index).items():
            kind = block.kinds[place]
            if not kind.is_erased:
                hour[kind.type] += events
                last[kind.type] = max(last.get(kind.type, 0.0), block.received)
    kept = {hour: dict(types.most_common(MOST_TYPES)) for hour, types in hours.items()}
    return PartCount(key, part.stamp, kept, {kind: last[kind] for types in kept.values() for kind in types})


def merge_counts(
    parts: Iterable[PartCount], since: float, unread: float | None, problems: Collection[str]
) -> JournalTypes:
    """Merge the counts of all parts from an hour on. Pure."""
    days: defaultdict[str, Counter[str]] = defaultdict(Counter)
    last: dict[str, float] = {}
    for part in parts:
        for hour, types in part.hours.items():
            if hour * HOUR_S < since:
                continue
            day = datetime.fromtimestamp(hour * HOUR_S, UTC).date().isoformat()
            for kind, events in types.items():
                days[kind][day] += events
                last[kind] = max(last.get(kind, 0.0), part.last[kind])
    counts = [
        TypeCount(type=kind, events=found.total(), last=last[kind], days=dict(sorted(found.items())))
        for kind, found in days.items()
    ]
    counts.sort(key=attrgetter("events"), reverse=True)
    complete = since if unread is None else max(since, unread)
    return JournalTypes(since=since, complete_since=complete, types=counts[:MOST_TYPES], problems=[*problems])
