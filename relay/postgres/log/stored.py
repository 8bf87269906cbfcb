"""Reads the events of a partition from its tables, and notes what is damaged. Blocking.

How it fails and recovers:

- A row with a wrong checksum, rows that are missing, and tables that are missing are damage. Readers pass over damage,
  and each range is noted once.
- A segment that was removed in time, or replaced by an erasure, is no damage: the segments are read anew, and tried
  again.
- A block that only a newer relay can read stops readers, and is no damage.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

import psycopg

from relay.api import Block
from relay.journal import Lost
from relay.postgres.connection import PostgresConnection
from relay.postgres.log.blocks import LOST, BlockRow, read_rows
from relay.postgres.log.segments import Catalogue
from relay.store import Damage

CHANGED: Final = "its checksum is wrong"
MISSING: Final = "its rows are missing"
GONE: Final = "the table is gone"
Found = Block | Damage | range
"""A range is of offsets whose events were lost before: their row says so."""


def sort_out(rows: Sequence[BlockRow], name: str, start: int, stop: int | None) -> Iterator[Found]:
    """Yield the blocks of these rows, what was lost before, and the damage before, between and, with `stop`, behind the
    rows. Raises Unsupported."""
    at = start
    for number, row in enumerate(rows):
        block = row.decode()
        following = rows[number + 1].base if number + 1 < len(rows) else stop
        if block is None:
            end = row.base + max(1, row.events)
            end = end if following is None else min(end, following)
            if end > at:
                yield Damage(max(row.base, start), end, name, CHANGED, saved=None)
                at = end
            continue
        if row.base > at:
            yield Damage(at, row.base, name, MISSING, saved=None)
        inside, at = max(0, start - row.base), row.base + row.events
        if block is LOST:
            yield range(row.base + inside, at)
        else:
            yield block.slice(inside, len(block)) if inside else block
    if stop is not None and at < stop:
        yield Damage(at, stop, name, MISSING, saved=None)


class StoredEvents:
    """The events of a partition in its tables. Threads may share it."""

    def __init__(self, catalogue: Catalogue, lost: Lost) -> None:
        self._catalogue, self._lost = catalogue, lost

    def read(self, db: PostgresConnection, offset: int, head: int) -> tuple[list[Block], int]:
        """Read the blocks from this offset on, below `head`, about a MiB; return them, and the offset for the next
        read. Raises psycopg.Error, Unsupported."""
        segments = self._catalogue.segments
        if not segments:
            return [], head
        place = max(0, bisect_right(segments, offset, key=lambda segment: segment.base) - 1)
        segment, start = segments[place], max(offset, segments[place].base)
        end = min(segments[place + 1].base, head) if place + 1 < len(segments) else head
        try:
            rows = read_rows(db, segment.name, start, end)
        except psycopg.errors.UndefinedTable:
            self._catalogue.refresh(db)
            if segment.name not in (other.name for other in self._catalogue.segments):
                return [], offset
            self._lost.add(Damage(start, end, segment.name, GONE, saved=None))
            return [], end
        blocks, at = list[Block](), start
        for found in sort_out(rows, segment.name, start, None if rows else end):
            if isinstance(found, Damage):
                self._lost.add(found)
                at = found.stop
            elif isinstance(found, range):
                at = found.stop
            else:
                blocks.append(found)
                at = found.offsets[-1] + 1
        return blocks, at
