"""Appends to the log of a partition, and removes what nobody needs. Blocking: a thread of its own runs it.

How it fails and recovers:

- A block is appended by one statement, which is its transaction. The events count once the server has answered.
- A statement without an answer is never cancelled. The connection is closed, senders get 503, and whether the block is
  there shows when somebody reads the end of the log. The block has its offsets in either case: the next append takes
  the offsets behind it, and waits for it if it is not decided yet.
- Another process may begin a segment at any time. The append then does nothing, and is tried with the next segment.
- A database that was restored, or whose standby has taken over too early, may lack acknowledged events. Their offsets
  are not given again: no block gets an offset below `floor`, and a new timeline has segments of its own (`known_ends`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import psycopg
import structlog

from relay.api import Block
from relay.histogram import QUICK, Histogram
from relay.journal import Compressor, Group, choose_expendable, choose_segment_size
from relay.postgres.connection import Database, Lasting, PostgresConnection
from relay.postgres.log.blocks import KNOWN_ID, OTHER_SEGMENT, BlockRow, append_row, encode_block
from relay.postgres.log.seen import find_seen, leave_out
from relay.postgres.log.segments import (
    Catalogue,
    SegmentTable,
    begin_segment,
    drop_segment,
    find_log_end,
    read_identity,
)
from relay.postgres.log.server_time import ServerTime
from relay.postgres.state.journal_state import read_head
from relay.store import Clock, JournalLimits, Unavailable, make_block

TRIES: Final = 5
"""How often an append is tried while other processes come before."""
SPARE_BYTES: Final = 64 << 10
"""Bytes that the table of a segment takes beside its rows."""
FRESH_S: Final = 60.0
"""Seconds after which the sizes of segments are read again."""
MIB: Final = 1 << 20
FULL: Final = "the journal has reached its max_size and every event in it is still needed"
log = structlog.stdlib.get_logger()


class Opened(NamedTuple):
    """A log as it was found."""

    identity: str
    head: int
    """The offset behind all acknowledged events."""


class Committed(NamedTuple):
    """What has become of a group."""

    block: Block | None
    """The appended events; None if all were duplicates."""
    results: Sequence[object]
    """The result for each batch."""


class PostgresWriter:
    """Writes the log of one partition."""

    def __init__(self, database: Database, limits: JournalLimits, catalogue: Catalogue) -> None:
        self.connection = Lasting(database)
        self.limits, self.catalogue, self._known_ends = limits, catalogue, database.known_ends
        self.time = ServerTime()
        self.clock = Clock(wall=self.time.read)
        self.syncs = Histogram(QUICK)
        """Seconds per commit."""
        self.stored = 0
        """Bytes that the appended events took."""
        self.keep = self.replay_floor = 0
        """The first needed offset, and the first offset that a replay needs."""
        self.may_remove = False
        """Whether this process knows which events are needed."""
        self._compressor: Compressor | None = None
        self._caught_up: PostgresConnection | None = None
        """The connection on which the end of the log was found. The next connection may lead to another server."""

    @property
    def floor(self) -> int:
        """The offset below which all offsets were given before, as far as this process knows."""
        return self._known_ends.find(self.catalogue.partition)

    def note_end(self, end: int) -> None:
        """Note that the events below this offset are acknowledged."""
        self._known_ends.note(self.catalogue.partition, end)

    def open(self) -> Opened:
        """Look where the log ends, and begin a segment if there is none, or if acknowledged events behind the end are
        lost. Raises Unavailable."""
        try:
            return self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> Opened:
        partition = self.catalogue.partition
        with self.connection.use() as db:
            self.note_end(read_head(db, partition))
            self._catch_up(db)
            end = find_log_end(db, partition)
            if end is None:
                raise Unavailable(f"partition {partition} has no segment", "missing")
            self.note_end(end.stop)
            self.time.note(end.now_us)
            return Opened(read_identity(db, partition), end.stop)

    def mend_end(self) -> None:
        """Begin a segment if the newest one takes no blocks, or lacks events that were acknowledged. Raises
        Unavailable."""
        with self.connection.use() as db:
            self._catch_up(db)

    def write(self, group: Group) -> Committed:
        """Append a group without its duplicates. Raises Unavailable."""
        with self.connection.use() as db:
            if db is not self._caught_up:
                self._catch_up(db)
                self._caught_up = db
            for _ in range(TRIES):
                try:
                    return self._write(db, group)
                except psycopg.errors.UndefinedTable:  # somebody has dropped the newest segment
                    self.begin(db)
                except psycopg.Error as error:
                    if error.sqlstate not in (OTHER_SEGMENT, KNOWN_ID):
                        raise
                    self._catch_up(db)
        raise Unavailable("other processes came before at each try", "busy")

    def _catch_up(self, db: PostgresConnection) -> None:
        """Learn which segment takes blocks. Begin one if there is none, or if events are lost. Raises psycopg.Error."""
        self.catalogue.refresh(db)
        known = self.floor  # before the end: other threads of this process append meanwhile
        end = find_log_end(db, self.catalogue.partition)
        if end is None or not end.is_open or end.stop < known:
            self.begin(db)
        elif end.newest != self.catalogue.newest:  # another process has begun it since
            self.catalogue.refresh(db)

    def _write(self, db: PostgresConnection, group: Group) -> Committed:
        """Append a group. Raises psycopg.Error, also if another process came before; the next try may succeed."""
        seen, now_us = find_seen(db, group.ids.values()) if group.ids else ({}, 0)
        new = leave_out(group, seen, now_us)
        if not new.bodies:
            return Committed(None, new.places)
        block = self._append(db, make_block(0, 0, new.kinds, new.bodies), new.make_values() if new.noted else ())
        base = block.offsets[0]
        return Committed(block, [base + place if isinstance(place, int) else place for place in new.places])

    def _append(self, db: PostgresConnection, block: Block, ids: Sequence[Sequence[Any]]) -> Block:
        """Append a block; return it with its offsets and its time. Raises psycopg.Error."""
        row = encode_block(block, self._choose_compressor())
        newest = self._choose_segment(db, row.stored)
        began = time.perf_counter()
        base, received_us = append_row(db, self.catalogue.partition, newest, self.floor, row, ids)
        self.syncs.observe(time.perf_counter() - began)
        return self._note_appended(block, row, base, received_us)

    def _note_appended(self, block: Block, row: BlockRow, base: int, received_us: int) -> Block:
        offsets = range(base, base + len(block))
        self.note_end(offsets.stop)
        self.stored += row.stored
        self.catalogue.note_growth(row.stored)
        self.time.note(received_us)
        return replace(block, offsets=offsets, received=received_us / 1e6)

    def _choose_compressor(self) -> Compressor | None:
        if self.limits.compress and self._compressor is None:
            self._compressor = Compressor()
        return self._compressor if self.limits.compress else None

    def _choose_segment(self, db: PostgresConnection, needed: int) -> int:
        """Return the segment that takes a row of so many bytes. Begin the next one if the newest is full. Raises
        Unavailable without room."""
        full = choose_segment_size(self.limits)
        if (newest := self._read_newest(db)) is not None and not self._is_full(newest, needed):
            return newest.number
        self.catalogue.refresh(db)  # others have appended, and others may have begun a segment
        newest = self._read_newest(db)
        if newest is None or self._is_full(newest, needed):
            expendable, lack = self._find_room(max(full, needed + SPARE_BYTES))
            if lack:
                raise Unavailable(lack, "full")
            self._remove(db, expendable)
            self.begin(db)
        return self.catalogue.segments[-1].number

    def _read_newest(self, db: PostgresConnection) -> SegmentTable | None:
        if not self.catalogue.segments or time.monotonic() > self.catalogue.read_at + FRESH_S:
            self.catalogue.refresh(db)
        return self.catalogue.segments[-1] if self.catalogue.segments else None

    def _is_full(self, newest: SegmentTable, needed: int) -> bool:
        return newest.size > SPARE_BYTES and newest.size + needed > choose_segment_size(self.limits)

    def begin(self, db: PostgresConnection) -> None:
        """Begin the next segment, unless somebody else has. Raises psycopg.Error."""
        begin_segment(db, self.catalogue.partition, self.catalogue.newest, self.floor)
        self.catalogue.refresh(db)

    def seal(self, head: int) -> Sequence[SegmentTable]:
        """Return the segments with events below `head`. They do not grow any more. Raises Unavailable."""
        with self.connection.use() as db:
            self.catalogue.refresh(db)
            end = find_log_end(db, self.catalogue.partition)
            if end is not None and self.catalogue.segments[-1].base < min(head, end.stop):
                self.begin(db)
        return [one for one in self.catalogue.segments if one.stop is not None and one.base < min(head, one.stop)]

    def find_lack(self) -> str:
        """Return why the next group would find no room; "" if it would. Raises Unavailable."""
        with self.connection.use() as db:
            newest = self._read_newest(db)
        full = choose_segment_size(self.limits)
        return "" if newest is not None and newest.size < full else self._find_room(full)[1]

    def _find_room(self, size: int) -> tuple[Sequence[SegmentTable], str]:
        """Return the segments to remove for a segment of so many bytes, and why that would not suffice; "" if it
        would."""
        lacking = size + self.catalogue.size - self.limits.max_size
        expendable = self._choose_expendable(lacking)
        return (expendable, "") if lacking <= sum(one.size for one in expendable) else ((), FULL)

    def _choose_expendable(self, lacking: float) -> Sequence[SegmentTable]:
        if not self.may_remove:
            return ()
        now = self.clock.now(self.limits.retention)
        closed = [one for one in self.catalogue.segments if one.stop is not None]
        newest = [replace(one, stop=self.floor) for one in self.catalogue.segments[len(closed) :]]
        return choose_expendable([*closed, *newest], self.limits, self.keep, self.replay_floor, now, lacking)

    def remove_expired(self) -> None:
        """Remove the expired segments that nobody needs, and as many more as the next segment needs room. Raises
        Unavailable."""
        lacking = choose_segment_size(self.limits) + self.catalogue.size - self.limits.max_size
        if expendable := self._choose_expendable(lacking):
            with self.connection.use() as db:
                self._remove(db, expendable)

    def _remove(self, db: PostgresConnection, segments: Sequence[SegmentTable]) -> None:
        removed = []
        for segment in segments:
            if not drop_segment(db, segment):
                log.info("a journal segment stays until nobody reads it", table=segment.name)
                break
            removed.append(segment)
        if not removed:
            return
        self.catalogue.refresh(db)
        first, end = removed[0].base, removed[-1].end
        log.info("journal segments removed", segments=len(removed), events=end - first, up_to_offset=end)
        if end > self.keep:
            reason = "no room, and journal.on_full is expire_oldest"
            log.error("events removed that were still needed", events=end - max(first, self.keep), reason=reason)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
