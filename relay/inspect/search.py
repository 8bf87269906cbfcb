"""Finds an event by its id: in the journal and among the parked events, and how far every lane is with it. Blocking,
and changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Final

import orjson

from relay.api import Event, Kind, value_in
from relay.inspect.segments import Inspected, blocks, describe_segments, list_segments
from relay.state import (
    Attempts,
    Counts,
    LaneLedger,
    Parked,
    ParkedQuery,
    Replay,
    find_attempts_at,
    find_parked_at,
    find_replays_over,
    find_worker,
    list_journals,
    read_acknowledged,
    read_lanes_if_any,
    read_parked,
    was_damaged,
)

ESCAPED: Final = frozenset('"\\/')
"""What a sender may write in more than one way inside a JSON string."""
PENDING: Final = "pending"
"""The state of a lane that has not settled the event."""
DAMAGED: Final = "damaged: it could not be read when its turn came, unless it was settled before"
FOUND: Final = 1000
"""Events with one id that are told of: whoever asks has them all in memory."""
FOUND_BYTES: Final = 16 << 20
"""Of them so many bytes at most, but for the first."""


@dataclass(frozen=True, slots=True)
class LaneProgress:
    """How far a lane is with an event."""

    connector: str
    state: str | None
    """In words; None: it is settled, and not parked."""
    attempts: Sequence[Attempts]
    counts: Counts
    """Of all events that the lane has settled."""
    replays: Sequence[Replay] = ()
    """Of ranges that the event is in, the last one first."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event in the journal, and how far those lanes are with it that have ledgers."""

    offset: int
    received: float
    kind: Kind
    segment: str
    body: bytes
    lanes: Sequence[LaneProgress]

    @property
    def event(self) -> Event:
        """The event itself."""
        return Event(self.body, self.kind, self.offset, self.received)


@dataclass(frozen=True, slots=True)
class Aside:
    """A parked event."""

    connector: str | None
    source: str
    offset: int | None
    type: str | None
    cause: str
    reason: str
    attempts: int
    part: int = 0
    """Which part of the event, if filters have split that."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one worker's folder."""

    worker: int
    journal: Sequence[Sighting]
    parked: Sequence[Aside]
    """Those that are not in the journal, or no longer, and parts of events that are looked for by their own ids."""
    problems: Sequence[str]
    """What could not be read, or is not told of."""


@dataclass(slots=True)
class Room:
    """How much more is told of; there is always room for the first event."""

    events: int
    bytes: int
    is_fresh: bool = True

    def takes(self, event: Event) -> bool:
        """Whether there was room for one more."""
        self.events -= 1
        self.bytes -= len(event.body)
        fits = self.is_fresh or (self.events >= 0 and self.bytes >= 0)
        self.is_fresh = False
        return fits


def search_all(state: Path, path: Path, id: str) -> list[Found]:
    """Find the events with an id in every worker's folder; `path` is the setting `journal.path`.

    Raises FileNotFoundError, OSError, sqlite3.Error."""
    folders = list_journals(state, path)
    saved = {number: read_lanes_if_any(folder) for number, (folder, _) in folders.items()}
    aside = [(find_worker(one.number), _aside(one)) for one in islice(_parked(state, id), FOUND)]
    found, room = [], Room(FOUND, FOUND_BYTES)
    for number, (folder, journal) in folders.items():
        listed = list_segments(journal, read_acknowledged(folder))
        events, problems = _seen(listed, room, id)
        mine = [one for worker, one in aside if worker == number and one.offset not in events]
        beside = sorted(_parked_at(folder, [*events]), key=attrgetter("part"))
        sightings = [
            Sighting(
                event.offset,
                event.received,
                event.kind,
                segment,
                event.body,
                _progress(
                    event.offset,
                    saved.get(number, []),
                    beside,
                    _attempts(folder, event.offset),
                    _replays(folder, event.offset),
                    was_damaged=_was_damaged(folder, event.offset),
                ),
            )
            for event, segment in events.values()
        ]
        found.append(Found(number, sightings, mine, [*problems, *describe_segments(listed)]))
    return found


def _seen(listed: Sequence[Inspected], room: Room, id: str) -> tuple[dict[int, tuple[Event, str]], list[str]]:
    """The events with an id in a journal, by offset, each with the name of its segment; and that there are more."""
    found: dict[int, tuple[Event, str]] = {}
    for segment, event in _matches(listed, id):
        if not room.takes(event):
            return found, [f"there are more events with this id, from offset {event.offset} on"]
        found[event.offset] = event, segment.path.name
    return found, []


def _parked(state: Path, id: str) -> Iterator[Parked]:
    with suppress(FileNotFoundError):
        yield from (one for one in read_parked(state, ParkedQuery()) if _is_of(one, id))


def _parked_at(folder: Path, offsets: Sequence[int]) -> list[Aside]:
    """What is parked of the events at these offsets: their parts have ids of their own."""
    with suppress(FileNotFoundError):
        return [*map(_aside, find_parked_at(folder, offsets))]
    return []


def _attempts(folder: Path, offset: int) -> list[Attempts]:
    with suppress(FileNotFoundError):
        return find_attempts_at(folder, offset)
    return []


def _replays(folder: Path, offset: int) -> list[Replay]:
    with suppress(FileNotFoundError):
        return find_replays_over(folder, offset)
    return []


def _was_damaged(folder: Path, offset: int) -> bool:
    with suppress(FileNotFoundError):
        return was_damaged(folder, offset)
    return False


def _matches(listed: Sequence[Inspected], id: str) -> Iterator[tuple[Inspected, Event]]:
    """Events with this id. Blocks and events that do not hold its bytes are not decoded."""
    is_plain = id.isascii() and id.isprintable() and ESCAPED.isdisjoint(id)
    needle = id.encode() if is_plain else b""
    for segment, block in blocks(listed):
        if needle in block.body:
            for event in block:
                if needle in event.body and _id(event) == id:
                    yield segment, event


def _id(event: Event) -> str | None:
    try:
        return event.id
    except (ValueError, LookupError, TypeError):
        value = value_in(event.body, [event.kind.id_field])
        return None if value is None else str(value)


def _is_of(one: Parked, id: str) -> bool:
    """Whether a parked event has this id. What was unreadable at its source has it if any field of it says so."""
    if one.offset is not None:
        return _id(one.event) == id
    try:
        data = orjson.loads(one.body)
    except orjson.JSONDecodeError:
        return id.encode() in one.body
    return isinstance(data, dict) and id in map(str, data.values())


def _progress(
    offset: int,
    saved: Sequence[LaneLedger],
    aside: Sequence[Aside],
    noted: Sequence[Attempts],
    replays: Sequence[Replay],
    *,
    was_damaged: bool,
) -> list[LaneProgress]:
    reasons: dict[str | None, list[str]] = {}
    for one in aside:
        if one.offset == offset:
            part = f"part {one.part}: " if one.part else ""
            reasons.setdefault(one.connector, []).append(f"{part}{one.cause}: {one.reason}")
    return [
        LaneProgress(
            lane.connector,
            _state(offset, lane, "; ".join(reasons.get(lane.connector, ())), was_damaged=was_damaged),
            [one for one in noted if one.connector == lane.connector],
            lane.cursor.counts,
            [one for one in replays if one.connector == lane.connector],
        )
        for lane in saved
    ]


def _state(offset: int, lane: LaneLedger, reason: str, *, was_damaged: bool) -> str | None:
    """How far the lane is with the event; None if that is settled, and neither parked nor damaged."""
    if offset < lane.cursor.start:
        return "before the lane began"
    if not lane.is_settled(offset):
        return PENDING
    if reason:
        return f"parked ({reason})"
    return DAMAGED if was_damaged and lane.cursor.counts.damaged else None


def _aside(one: Parked) -> Aside:
    return Aside(one.connector, one.source, one.offset, one.type, one.cause, one.reason, one.attempts, one.part)
