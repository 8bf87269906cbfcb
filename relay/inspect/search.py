"""Finds an event by its id in the journal and among parked events, with the state of every lane. Blocking, and changes
nothing."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Final

import orjson

from relay.api import Event, Kind, value_in
from relay.inspect.segments import Inspected, describe_segments, list_segments, read_all_blocks
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
"""Characters that a sender may write in several ways inside a JSON string."""
PENDING: Final = "pending"
"""The state of a lane that has not settled the event."""
DAMAGED: Final = "damaged: it could not be read when its turn came, unless it was settled before"
FOUND: Final = 1000
"""Events with one id that are reported, all held in memory."""
FOUND_BYTES: Final = 16 << 20
"""Bytes of those events, at most, except for the first."""


@dataclass(frozen=True, slots=True)
class LaneProgress:
    """The state of a lane for an event."""

    connector: str
    state: str | None
    """In words; None: settled, and not parked."""
    attempts: Sequence[Attempts]
    counts: Counts
    """The lane's counts of all settled events."""
    replays: Sequence[Replay] = ()
    """Replays with the event in their range, the last one first."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event in the journal, and the states of the lanes with ledgers."""

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
    """The part of the event, if filters have split it."""


@dataclass(frozen=True, slots=True)
class Found:
    """The findings in one worker's folder."""

    worker: int
    journal: Sequence[Sighting]
    parked: Sequence[Aside]
    """Parked events that are not, or no longer, in the journal, and parts of events with ids of their own."""
    problems: Sequence[str]
    """What could not be read, or is left out."""


@dataclass(slots=True)
class Room:
    """The room for further events; the first event always fits."""

    events: int
    bytes: int
    is_fresh: bool = True

    def take(self, event: Event) -> bool:
        """Take an event's room; return whether there was any."""
        self.events -= 1
        self.bytes -= len(event.body)
        fits = self.is_fresh or (self.events >= 0 and self.bytes >= 0)
        self.is_fresh = False
        return fits


def search_all(state: Path, path: Path, id: str) -> list[Found]:
    """Find the events with an id in every worker's folder. `path`: the setting `journal.path`.

    Raises FileNotFoundError, OSError, sqlite3.Error.
    """
    folders = list_journals(state, path)
    saved = {number: read_lanes_if_any(folder) for number, (folder, _) in folders.items()}
    aside = [(find_worker(one.number), _make_aside(one)) for one in islice(_find_parked(state, id), FOUND)]
    found, room = [], Room(FOUND, FOUND_BYTES)
    for number, (folder, journal) in folders.items():
        listed = list_segments(journal, read_acknowledged(folder))
        events, problems = _find_sightings(listed, room, id)
        mine = [one for worker, one in aside if worker == number and one.offset not in events]
        beside = sorted(_find_parked_at(folder, [*events]), key=attrgetter("part"))
        sightings = [
            Sighting(
                event.offset,
                event.received,
                event.kind,
                segment,
                event.body,
                _list_progress(
                    event.offset,
                    saved.get(number, []),
                    beside,
                    _find_attempts(folder, event.offset),
                    _find_replays(folder, event.offset),
                    was_damaged=_was_damaged(folder, event.offset),
                ),
            )
            for event, segment in events.values()
        ]
        found.append(Found(number, sightings, mine, [*problems, *describe_segments(listed)]))
    return found


def _find_sightings(listed: Sequence[Inspected], room: Room, id: str) -> tuple[dict[int, tuple[Event, str]], list[str]]:
    """Find the events with an id in a journal: by offset, with the segment's name, and whether there are more."""
    found: dict[int, tuple[Event, str]] = {}
    for segment, event in _find_matches(listed, id):
        if not room.take(event):
            return found, [f"there are more events with this id, from offset {event.offset} on"]
        found[event.offset] = event, segment.path.name
    return found, []


def _find_parked(state: Path, id: str) -> Iterator[Parked]:
    with suppress(FileNotFoundError):
        yield from (one for one in read_parked(state, ParkedQuery()) if _is_of(one, id))


def _find_parked_at(folder: Path, offsets: Sequence[int]) -> list[Aside]:
    """Find parked parts of the events at these offsets: parts have ids of their own."""
    with suppress(FileNotFoundError):
        return [*map(_make_aside, find_parked_at(folder, offsets))]
    return []


def _find_attempts(folder: Path, offset: int) -> list[Attempts]:
    with suppress(FileNotFoundError):
        return find_attempts_at(folder, offset)
    return []


def _find_replays(folder: Path, offset: int) -> list[Replay]:
    with suppress(FileNotFoundError):
        return find_replays_over(folder, offset)
    return []


def _was_damaged(folder: Path, offset: int) -> bool:
    with suppress(FileNotFoundError):
        return was_damaged(folder, offset)
    return False


def _find_matches(listed: Sequence[Inspected], id: str) -> Iterator[tuple[Inspected, Event]]:
    """Yield the events with this id. Blocks and events without its bytes are not decoded."""
    is_plain = id.isascii() and id.isprintable() and ESCAPED.isdisjoint(id)
    needle = id.encode() if is_plain else b""
    for segment, block in read_all_blocks(listed):
        if needle in block.body:
            for event in block:
                if needle in event.body and _read_id(event) == id:
                    yield segment, event


def _read_id(event: Event) -> str | None:
    try:
        return event.id
    except (ValueError, LookupError, TypeError):
        value = value_in(event.body, [event.kind.id_field])
        return None if value is None else str(value)


def _is_of(one: Parked, id: str) -> bool:
    """Return whether a parked event has this id. In an unreadable entry any field may hold it."""
    if one.offset is not None:
        return _read_id(one.event) == id
    try:
        data = orjson.loads(one.body)
    except orjson.JSONDecodeError:
        return id.encode() in one.body
    return isinstance(data, dict) and id in map(str, data.values())


def _list_progress(
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
            _describe_state(offset, lane, "; ".join(reasons.get(lane.connector, ())), was_damaged=was_damaged),
            [one for one in noted if one.connector == lane.connector],
            lane.cursor.counts,
            [one for one in replays if one.connector == lane.connector],
        )
        for lane in saved
    ]


def _describe_state(offset: int, lane: LaneLedger, reason: str, *, was_damaged: bool) -> str | None:
    """Return the lane's state for the event; None if it is settled, and neither parked nor damaged."""
    if offset < lane.cursor.start:
        return "before the lane began"
    if not lane.is_settled(offset):
        return PENDING
    if reason:
        return f"parked ({reason})"
    return DAMAGED if was_damaged and lane.cursor.counts.damaged else None


def _make_aside(one: Parked) -> Aside:
    return Aside(one.connector, one.source, one.offset, one.type, one.cause, one.reason, one.attempts, one.part)
