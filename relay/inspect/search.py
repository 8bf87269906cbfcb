"""Finds an event by its id in the journal and among parked events, with the state of every lane. Blocking, and changes
nothing."""

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final

import orjson
from msgspec import Struct

from relay.api import Block, Event, Kind, value_in
from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import (
    Attempts,
    Counts,
    LaneLedger,
    Parked,
    ParkedQuery,
    PartitionView,
    Replay,
    Store,
    Unavailable,
    find_partition,
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


class LaneProgress(Struct, frozen=True):
    """The state of a lane for an event."""

    connector: str
    state: str | None
    """In words; None: settled, and not parked."""
    attempts: Sequence[Attempts]
    counts: Counts
    """The lane's counts of all settled events."""
    replays: Sequence[Replay] = ()
    """Replays with the event in their range, the last one first."""


class Sighting(Struct, frozen=True):
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


class Aside(Struct, frozen=True):
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


class Found(Struct, frozen=True):
    """The findings in one worker's folder."""

    worker: int
    journal: Sequence[Sighting]
    parked: Sequence[Aside]
    """Parked events that are not, or no longer, in the journal, and parts of events with ids of their own."""
    problems: Sequence[str]
    """What could not be read, or is left out."""


class Room(Struct):
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


def search_all(store: Store, id: str, progress: JournalProgress = UNTOLD) -> list[Found]:
    """Find the events with an id in every worker's journal and parked events. Raises Unavailable."""
    views = store.view_all()
    saved = {view.number: view.read_lanes_if_any() for view in views}
    parked = _find_parked(store, id)
    found, room = [], Room(FOUND, FOUND_BYTES)
    progress.begin(views)
    for view in views:
        log = view.view_log()
        events, problems = _find_events(progress.follow(view.number, log.read()), room, id)
        mine = [aside for worker, aside in parked if worker == view.number and aside.offset not in events]
        # By offset: parts have ids of their own
        there = view.find_parked_at([*events]) if view.has_state() else ()
        parts = sorted(map(_make_aside, there), key=attrgetter("part"))
        sightings = [
            Sighting(
                offset,
                event.received,
                event.kind,
                segment,
                event.body,
                _list_progress(view, offset, saved[view.number], parts),
            )
            for offset, (event, segment) in events.items()
        ]
        found.append(Found(view.number, sightings, mine, [*problems, *log.problems]))
    return found


def _find_parked(store: Store, id: str) -> list[tuple[int, Aside]]:
    """Find parked events with an id, at most FOUND, each with its worker."""
    found = list[tuple[int, Aside]]()
    try:
        for one in islice((each for each in store.parked.read(ParkedQuery()) if _is_of(each, id)), FOUND):
            found.append((find_partition(one.number), _make_aside(one)))
    except Unavailable as error:
        if error.reason != "missing":
            raise
    return found


def _find_events(
    blocks: Iterator[tuple[str, Block]], room: Room, id: str
) -> tuple[dict[int, tuple[Event, str]], list[str]]:
    """Find the events with an id in a journal: by offset, with the segment's name, and whether there are more.

    Do not decode blocks and events without the bytes of the id.
    """
    is_plain = id.isascii() and id.isprintable() and ESCAPED.isdisjoint(id)
    needle = id.encode() if is_plain else b""
    found: dict[int, tuple[Event, str]] = {}
    for part, block in blocks:
        if needle not in block.body:
            continue
        for event in block:
            if needle in event.body and _read_id(event) == id:
                if not room.take(event):
                    return found, [f"there are more events with this id, from offset {event.offset} on"]
                found[event.offset] = event, part
    return found, []


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
    view: PartitionView, offset: int, saved: Sequence[LaneLedger], aside: Sequence[Aside]
) -> list[LaneProgress]:
    attempts, replays, is_damaged = list[Attempts](), list[Replay](), False
    if view.has_state():
        attempts, replays = view.find_attempts_at(offset), view.find_replays_over(offset)
        is_damaged = view.was_damaged(offset)
    reasons: dict[str | None, list[str]] = {}
    for one in aside:
        if one.offset == offset:
            part = f"part {one.part}: " if one.part else ""
            reasons.setdefault(one.connector, []).append(f"{part}{one.cause}: {one.reason}")
    return [
        LaneProgress(
            lane.connector,
            _describe_state(offset, lane, "; ".join(reasons.get(lane.connector, ())), is_damaged=is_damaged),
            [one for one in attempts if one.connector == lane.connector],
            lane.cursor.counts,
            [one for one in replays if one.connector == lane.connector],
        )
        for lane in saved
    ]


def _describe_state(offset: int, lane: LaneLedger, reason: str, *, is_damaged: bool) -> str | None:
    """Return the lane's state for the event; None if it is settled, and neither parked nor damaged."""
    if offset < lane.cursor.start:
        return "before the connector began"
    if not lane.is_settled(offset):
        return PENDING
    if reason:
        return f"parked ({reason})"
    return DAMAGED if is_damaged and lane.cursor.counts.damaged else None


def _make_aside(one: Parked) -> Aside:
    return Aside(one.connector, one.source, one.offset, one.type, one.cause, one.reason, one.attempts, one.part)
