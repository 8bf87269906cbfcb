"""The segments of a partition: which tables hold its events. Owns the SQL of `segment`.

How it fails and recovers:

- A segment is begun under the lock that appends take, and only if nobody has begun another one meanwhile.
- A segment is removed in one transaction: its row, and its table. A table that somebody reads is not waited for long.
  It stays, and is removed another time.
- A table that somebody has dropped by hand leaves a row here. So readers know which events are lost.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

import psycopg

from relay.journal import Lost
from relay.postgres.connection import PostgresConnection, limit_wait
from relay.postgres.log.blocks import LOCK_MS
from relay.store import Damage, Unavailable

CAME_BACK_OLDER: Final = "the database came back without them"
"""Why events are missing between two segments."""
DROP_S: Final = 0.5
"""Seconds that the removal of a segment waits for whoever reads the segment."""
_SELECT: Final = """
    SELECT number, name, base, stop, coalesce(size, pg_total_relation_size(to_regclass('$.' || name)), 0), received
    FROM $.segment WHERE partition = %s
"""


class LogEnd(NamedTuple):
    """Where the log of a partition ends."""

    newest: int
    """The number of the segment that takes the next block."""
    stop: int
    """The offset behind the last event."""
    received_us: int
    """When the last event was received; 0 without any."""
    now_us: int
    """The server's time."""
    is_open: bool
    """Whether that segment takes blocks under the server's timeline."""


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """A segment as its row tells it."""

    number: int
    name: str
    """Its table."""
    base: int
    """The offset of its first event."""
    stop: int | None
    """The offset behind its last event; None: the segment takes blocks."""
    size: int
    """Bytes of its table."""
    received_us: int
    """When its last event was received. While the segment takes blocks: the last event before it."""

    @property
    def end(self) -> int:
        """The offset behind its last event, or its base while it takes blocks."""
        return self.base if self.stop is None else self.stop

    @property
    def written(self) -> float:
        """Time of its last event in Unix seconds."""
        return self.received_us / 1e6


class Catalogue:
    """The segments of a partition as they were read last. Threads share it."""

    def __init__(self, partition: int, lost: Lost | None = None) -> None:
        """`lost` gets the events that are missing before a segment that appears between two reads."""
        self.partition, self._lost = partition, lost or Lost()
        self.segments: Sequence[SegmentTable] = ()
        """Ascending."""
        self.read_at = 0.0
        """When they were read, by the monotonic clock."""
        self._lock = threading.Lock()

    @property
    def newest(self) -> int | None:
        """The number of the segment that takes the next block, as far as it is known."""
        return self.segments[-1].number if self.segments else None

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    def refresh(self, db: PostgresConnection) -> None:
        """Read the segments anew. Raises psycopg.Error."""
        with self._lock:
            rows = db.run(f"{_SELECT} ORDER BY number", [self.partition]).fetchall()
            known = self.newest
            self.segments, self.read_at = [SegmentTable(*row) for row in rows], time.monotonic()
            for one, following in pairwise(self.segments):
                if known is not None and following.number > known and one.end < following.base:
                    place = f"partition {self.partition}"
                    self._lost.add(Damage(one.end, following.base, place, CAME_BACK_OLDER, saved=None))

    def note_growth(self, size: int) -> None:
        """Note that the newest segment has grown by so many bytes, about."""
        with self._lock:
            newest = self.segments[-1]
            self.segments = [*self.segments[:-1], replace(newest, size=newest.size + size)]


def find_log_end(db: PostgresConnection, partition: int) -> LogEnd | None:
    """Find where the log of a partition ends; None if the partition has no segment. Raises psycopg.Error."""
    row = db.run("SELECT * FROM $.find_end(%s)", [partition]).fetchone()
    return None if row is None else LogEnd(*row)


def begin_segment(db: PostgresConnection, partition: int, after: int | None, lowest: int) -> None:
    """Begin the segment after the one with number `after`, at offset `lowest` or later. Do nothing if another process
    has begun one. Raises psycopg.Error."""
    db.run("SELECT $.begin_segment(%s, %s, %s, %s)", [partition, after, lowest, LOCK_MS])


def drop_segment(db: PostgresConnection, segment: SegmentTable) -> bool:
    """Remove a segment; return False if somebody reads it. Raises psycopg.Error."""
    try:
        with db.transaction_of(limit_wait(DROP_S)):
            db.run("DELETE FROM $.segment WHERE number = %s AND name = %s", [segment.number, segment.name])
            db.run(f"DROP TABLE IF EXISTS $.{segment.name}")
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def read_identity(db: PostgresConnection, partition: int) -> str:
    """Read the id of a partition's log. Raises Unavailable if the partition is not there, psycopg.Error."""
    row = db.run("SELECT identity FROM $.partition WHERE partition = %s", [partition]).fetchone()
    if row is None:
        raise Unavailable(f"partition {partition} is not there", "missing")
    return str(row[0])


def make_table(db: PostgresConnection) -> str:
    """Make a table for a segment; return its name. Raises psycopg.Error."""
    ((name,),) = db.run("SELECT 'block_' || nextval('$.segment_number')").fetchall()
    db.run("SELECT $.make_blocks(%s)", [name])
    return str(name)


def replace_table(db: PostgresConnection, segment: SegmentTable, fresh: str) -> None:
    """Put another table in the place of a segment's table, and drop that one. Drop the other table if the segment is
    gone. Raises psycopg.Error."""
    size = f"pg_total_relation_size('$.{fresh}')"
    update = f"UPDATE $.segment SET name = %s, size = {size} WHERE number = %s AND name = %s"  # noqa: S608
    is_replaced = db.run(update, [fresh, segment.number, segment.name]).rowcount > 0
    db.run(f"DROP TABLE $.{segment.name if is_replaced else fresh}")
