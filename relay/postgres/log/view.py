"""The events of a partition as a bystander reads them, also while processes append.

How it fails and recovers:

- Every portion is a statement of its own. A slow reader delays nobody, and keeps no transaction open.
- A segment that was removed in time is passed over. A segment that an erasure has replaced is read on in the new table.
- A damaged row, missing rows and a missing table are damage. The reader passes over them, and tells of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import psycopg

from relay.api import Block
from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection
from relay.postgres.log.blocks import read_rows
from relay.postgres.log.segments import Catalogue, SegmentTable, find_log_end
from relay.postgres.log.stored import GONE, Found, sort_out
from relay.store import (
    CheckedPart,
    Condition,
    Damage,
    LogSurvey,
    Passed,
    Range,
    UnreadPart,
    describe_damage,
    find_unsettled,
    ignore_position,
    merge_overlapping,
)
from relay.words import format_count


@dataclass(slots=True)
class ReadSegment:
    """What was found in a segment."""

    table: SegmentTable
    stop: int
    """The offset up to which events must be there."""
    damage: list[Damage] = field(default_factory=list)
    first: float | None = None
    """When its first event was received, in Unix seconds."""
    last: float | None = None
    lost: int = 0
    """Events that were lost before, as rows say."""
    end: int = 0
    """The offset behind its last good event."""
    gap: Range | None = None
    """Offsets between this segment and the next one that no segment has."""

    def note(self, block: Block) -> None:
        """Note a good block."""
        self.first = block.received if self.first is None else self.first
        self.last, self.end = block.received, block.offsets[-1] + 1

    @property
    def condition(self) -> Condition:
        """Its condition."""
        if self.damage:
            return "damaged"
        if self.gap:
            return "gap"
        return "open" if self.table.stop is None else "good"

    @property
    def said(self) -> str:
        """Its condition in words."""
        gap = f"gap from {self.gap[0]} to {self.gap[1]}" if self.gap else ""
        lost = f"{self.condition}, {format_count(self.lost, 'event')} lost" if self.lost else self.condition
        return describe_damage(self.damage) or gap or lost

    def list_kept(self) -> list[Range]:
        """Return the offsets of its good events."""
        lost = [*merge_overlapping((one.start, one.stop) for one in self.damage)]
        return find_unsettled(self.table.base, self.stop, lost)

    def describe(self) -> CheckedPart:
        """Return the findings as a value."""
        return CheckedPart(
            path=self.table.name, base=self.table.base, condition=self.condition, end=max(self.end, self.table.base),
            used=self.table.size, behind=0, first=self.first, last=self.last, lost=self.lost,
            events=sum(stop - start for start, stop in self.list_kept()), said=self.said,
        )  # fmt: skip


class PostgresLogView:
    """The events of a partition. See `relay.store.LogView`."""

    def __init__(self, cluster: Cluster, partition: int, acknowledged: int = 0) -> None:
        """`acknowledged`: events below this offset must be there."""
        self._cluster, self._catalogue, self._acknowledged = cluster, Catalogue(partition), acknowledged
        self._read: list[ReadSegment] = []

    @property
    def problems(self) -> list[str]:
        return [f"{one.table.name}: {one.said}; relay journal check looks at all of it" for one in self._find_damaged()]

    def _find_damaged(self) -> list[ReadSegment]:
        return [one for one in self._read if one.damage or one.gap]

    def find_span(self) -> Range:
        found = self._list_segments()
        return (found[0].table.base, found[-1].stop) if found else (0, 0)

    def list_parts(self) -> list[UnreadPart]:
        return [
            UnreadPart(table.name, table.base, math.inf, "") if table.stop is None
            else UnreadPart(table.name, table.base, table.written, f"{table.stop} {table.size}")
            for table in (segment.table for segment in self._list_segments())
        ]  # fmt: skip

    def read(self, start: int = 0, since: float = 0.0) -> Iterator[tuple[str, Block]]:
        self._read = [one for one in self._list_segments() if one.stop > start]
        for segment in self._read:
            is_old = segment.table.stop is not None and segment.table.written < since
            for block in () if is_old else self._read_segment(segment, start):
                yield segment.table.name, block

    def check(self, passed: Passed = ignore_position) -> list[CheckedPart]:
        return [one.describe() for one in self._read_all(passed)]

    def survey(self, passed: Passed = ignore_position) -> LogSurvey:
        found = self._read_all(passed)
        return LogSurvey(
            parts=len(found),
            oldest=found[0].table.base if found else 0,
            kept=[each for one in found for each in one.list_kept()],
            problems=[f"{one.table.name}: {one.said}" for one in self._find_damaged()],
        )

    def _read_all(self, passed: Passed) -> list[ReadSegment]:
        for _, block in self.read():
            passed(block.offsets[-1] + 1)
        return self._read

    def _list_segments(self) -> list[ReadSegment]:
        """List the segments as they are now."""
        with self._cluster.use_tables() as db:
            self._catalogue.refresh(db)
            end = find_log_end(db, self._catalogue.partition)
        last = max(end.stop if end else 0, self._acknowledged)
        found = [ReadSegment(table, last if table.stop is None else table.stop) for table in self._catalogue.segments]
        for one, following in pairwise(found):
            if one.stop < following.table.base:
                one.gap = one.stop, following.table.base
        return found

    def _read_segment(self, segment: ReadSegment, start: int) -> Iterator[Block]:
        """Yield the good blocks of a segment from the one with offset `start` on, and note the rest."""
        at = max(start, segment.table.base)
        while at < segment.stop:
            with self._cluster.use_tables() as db:
                found = self._read_portion(db, segment, at)
            if found is None:
                self._read = [one for one in self._read if one is not segment]
                return
            for one in found:
                if isinstance(one, Damage):
                    segment.damage.append(one)
                    at = one.stop
                elif isinstance(one, range):
                    segment.lost += len(one)
                    at = segment.end = one.stop
                else:
                    segment.note(one)
                    at = one.offsets[-1] + 1
                    yield one

    def _read_portion(self, db: PostgresConnection, segment: ReadSegment, at: int) -> list[Found] | None:
        """Read on from an offset; return None if the segment was removed."""
        try:
            rows = read_rows(db, segment.table.name, at, segment.stop)
        except psycopg.errors.UndefinedTable:
            self._catalogue.refresh(db)
            present = {table.number: table for table in self._catalogue.segments}.get(segment.table.number)
            if present is None:
                return None
            if present.name == segment.table.name:
                return [Damage(at, segment.stop, present.name, GONE, saved=None)]
            segment.table = present
            return []
        return [*sort_out(rows, segment.table.name, at, None if rows else segment.stop)]
