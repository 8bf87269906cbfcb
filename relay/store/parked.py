"""Parked events (dead letters): the events, their totals, and their limits. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import dropwhile
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct, field
from msgspec.structs import fields, replace

from relay.api import Event, Kind

ROW_BYTES: Final = 200
"""About the bytes of an event in the database beside its texts."""
PORTION_EVENTS: Final = 500
"""Parked events that are read or changed at a time, at most."""
PORTION_BYTES: Final = 1 << 20
"""Bytes of parked events that are read or changed at a time, at most, unless there is only one."""
CAUSES: Final = ("unreadable", "filter", "refused", "too_large", "gave_up", "bug", "order")
"""Why an event is parked: it is unreadable at its source, a filter failed, the destination refused it or its size,
`give_up_after` is over, or it follows a parked event of its key."""


class Parked(Struct, frozen=True):
    """A parked event, and why it is parked."""

    source: str
    connector: str | None
    """None: parked at the source, and never in the journal."""
    offset: int | None
    type: str | None
    cause: str
    """One of CAUSES."""
    reason: str
    """The last error."""
    attempts: int
    body: bytes
    id_field: str = "id"
    time_field: str = "time"
    received: float = 0.0
    """When relay had the event on disk, in Unix seconds."""
    number: int = 0
    """Its number for admins, given by the database."""
    first: float = 0.0
    """Time of the first failed attempt in Unix seconds; 0: it fails only now."""
    last: float = 0.0
    """Time of the last failure in Unix seconds."""
    again: float | None = None
    """When a replay was requested, in Unix seconds; None without a request."""
    status: int | None = None
    """HTTP status of the last answer, if there was one."""
    answer: str = ""
    """The first bytes of the body of that answer, without secrets."""
    replay: int | None = None
    """The replay that parked it; None: the lane, whose ledger counts it."""
    key: str | None = None
    """Its ordering key, if the connector keeps an order."""
    part: int = 0
    """Its part of the event, from 0, if the connector's filters have split the event."""

    @classmethod
    def make(
        cls,
        event: Event,
        connector: str,
        cause: str,
        reason: str,
        attempts: int,
        status: int | None = None,
        answer: str = "",
    ) -> "Parked":
        """Make a parked event for one connector."""
        kind = event.kind
        return cls(
            kind.source, connector, event.offset, kind.type, cause, reason, attempts, event.body,
            kind.id_field, kind.time_field, event.received, status=status, answer=answer, part=event.part,
        )  # fmt: skip

    @property
    def event(self) -> Event:
        """The event as the connector's lane had it. Raises ValueError for an event parked at a source."""
        if self.offset is None or self.type is None:
            raise ValueError("what was unreadable at its source is no event")
        kind = Kind(self.source, self.type, self.id_field, self.time_field)
        return Event(self.body, kind, self.offset, self.received, self.part)


PARKED_FIELDS: Final = tuple(one.name for one in fields(Parked))
"""The columns of a parked event in a table."""


def measure_parked(reason: str, answer: str, key: str | None, body: bytes) -> int:
    """Return about the bytes that an event will take."""
    return ROW_BYTES + len(body) + len(reason) + len(answer) + len(key or "")


class ParkedQuery(Struct, frozen=True, kw_only=True):
    """Selects parked events. All given conditions must hold."""

    numbers: Sequence[int] = ()
    """Numbers of parked events; empty: every number."""
    connector: str | None = None
    """Connector for which the events are parked."""
    source: str | None = None
    """Source of the events."""
    cause: str | None = None
    """Cause: `unreadable`, `filter`, `refused`, `too_large`, `gave_up`, `bug` or `order`."""
    type: str | None = None
    """Event type; "": entries whose type is not known."""
    reason: str | None = None
    """The last error, word for word."""
    since: float | None = None
    """Earliest time of the last failure, in Unix seconds."""
    until: float | None = None
    """Latest time of the last failure, in Unix seconds."""
    limit: int | None = None
    """Maximum number of events, the oldest ones."""

    @property
    def is_counted(self) -> bool:
        """Whether `parked_total` knows the number of these events."""
        return not self.numbers and {self.type, self.reason, self.since, self.until} == {None}


class ParkedRow(NamedTuple):
    """The fields of a parked event that may name a user."""

    number: int
    offset: int | None
    type: str | None
    body: bytes
    key: str | None
    replay: int | None
    reason: str
    answer: str


Reason = Literal["retention", "max_size", "min_free"]
"""The setting for whose sake parked events were removed."""
SETTINGS: Final[dict[Reason, str]] = {
    "retention": "parked.retention",
    "max_size": "parked.max_size",
    "min_free": "journal.min_free",
}


class ParkedTotal(Struct, frozen=True, kw_only=True):
    """Parked events of one source, connector and cause."""

    source: str
    connector: str | None
    """None: at the source."""
    cause: str
    events: int = 0
    bytes: int = 0
    """About their bytes in the database."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """Events ever removed by relay itself, by setting: `parked.retention`, `parked.max_size` or `journal.min_free`."""

    @property
    def removed_for_room(self) -> int:
        """Removed events that were not too old."""
        return sum(events for setting, events in self.removed.items() if setting != "parked.retention")

    def __add__(self, other: "ParkedTotal") -> "ParkedTotal":
        removed = dict(Counter(self.removed) + Counter(other.removed))
        return replace(self, events=self.events + other.events, bytes=self.bytes + other.bytes, removed=removed)


def sum_totals(parts: Iterable[ParkedTotal]) -> list[ParkedTotal]:
    """Sum totals of the same source, connector and cause."""
    found: dict[tuple[str, str | None, str], ParkedTotal] = {}
    for one in parts:
        key = one.source, one.connector, one.cause
        found[key] = found[key] + one if key in found else one
    return [one for one in found.values() if one.events or one.removed]


def parse_totals(lying: Iterable[Sequence[Any]], removed: Iterable[Sequence[Any]]) -> list[ParkedTotal]:
    """Parse totals from rows with source, connector and cause. In `lying`, events and bytes follow; in `removed`, the
    reason and the events."""
    return sum_totals(
        [ParkedTotal(source=s, connector=c or None, cause=why, events=n, bytes=size) for s, c, why, n, size in lying]
        + [
            ParkedTotal(source=s, connector=c or None, cause=why, removed={SETTINGS[r]: n})
            for s, c, why, r, n in removed
        ]
    )


class ParkedGroup(Struct, frozen=True, kw_only=True):
    """Parked events with the same connector, source, cause, type and reason. Times are Unix seconds."""

    connector: str | None
    """null: at the source."""
    source: str
    cause: str
    type: str | None
    """null: not known."""
    reason: str
    events: int
    first: float
    """The first failed attempt of any of them."""
    last: float
    """The last failure of any of them."""


GROUP_FIELDS: Final = ("connector", "source", "cause", "type", "reason")
"""What the events of a group have in common."""
MOST_GROUPS: Final = 1000
"""Groups that a partition answers, and that are answered in all: the largest ones."""


def sum_groups(parts: Iterable[Sequence[Any]]) -> list[ParkedGroup]:
    """Sum rows with GROUP_FIELDS, events, first and last to groups; return the largest groups, the largest first."""
    found: dict[tuple[Any, ...], tuple[int, float, float]] = {}
    for *same, events, first, last in parts:
        known = found.get(key := tuple(same), (0, first, last))
        found[key] = known[0] + events, min(known[1], first), max(known[2], last)
    groups = [
        ParkedGroup(**dict(zip(GROUP_FIELDS, key, strict=True)), events=events, first=first, last=last)
        for key, (events, first, last) in found.items()
    ]
    return sorted(groups, key=attrgetter("events", "last"), reverse=True)[:MOST_GROUPS]


ReadDown: TypeAlias = Callable[[int, int | None], Iterator["Parked"]]
"""Reads the events of a partition from the highest number on, or from the highest one below a number."""


def order_newest(
    read: ReadDown, partitions: Iterable[int], after: int | None, own: int, find_last: Callable[[int], float | None]
) -> Iterator[Parked]:
    """Yield the events of all partitions, the newest first: each partition's by number, merged by their last failure.

    `read`: without a limit, as some events are passed over. `after`: goes on behind the event of this number, which may
    be gone. `own`: the partition of that number. `find_last` finds the last failure of the event with a number, or of
    the next event of the partition; None without any.
    """
    parts = []
    moment = None if after is None else find_last(after)
    for partition in partitions:
        if after is not None and partition == own:
            parts.append(read(partition, after))
        elif moment is None:
            parts.append(read(partition, None))
        else:
            parts.append(dropwhile(partial(_failed_after, moment), read(partition, None)))
    return merge(*parts, key=attrgetter("last"), reverse=True)


def _failed_after(moment: float, one: Parked) -> bool:
    return one.last > moment


def choose_first(found: Iterable[tuple[int, int]], size: int = PORTION_BYTES) -> list[int]:
    """Return the numbers of the first parked events (number, size) that make up this size, at least one."""
    numbers: list[int] = []
    for number, its in found:
        numbers.append(number)
        size -= its
        if size <= 0:
            break
    return numbers


class RemovedParked(NamedTuple):
    """A parked event that was removed."""

    source: str
    connector: str | None
    cause: str
    last: float
    """Time of its last failure in Unix seconds."""
    size: int
    reason: Reason


class ParkedLimits(Struct, frozen=True):
    """Limits of parked events; 0 is no limit."""

    max_size: int = 0
    """Bytes in one worker's database."""
    retention: float = 0.0
    """Seconds after the last failure."""
    min_free: int = 0
    """Bytes left free on the file system. Unreadable events leave twice as much, so that the journal has room first."""


class Removals(Struct):
    """Parked events removed for one reason, not logged yet."""

    counts: Counter[str] = field(default_factory=Counter)
    """By connector, or "source NAME"."""
    oldest: float = math.inf
    """Time of the oldest one's last failure, in Unix seconds."""

    def add(self, removed: RemovedParked) -> None:
        """Count one more."""
        self.counts[removed.connector or f"source {removed.source}"] += 1
        self.oldest = min(self.oldest, removed.last)
