"""Removes users' events from the closed segments of a partition. Blocking: runs in a thread of its own.

An UPDATE would leave the old bytes in the table's file. So the segment gets a new table, in one transaction: the server
copies the blocks that name nobody, and the others come without the users. The old table is dropped with its files. A
crash leaves either table, and a repetition changes nothing. Rows that nobody can read are left out, as they may name
somebody.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from relay.api import User
from relay.journal import REST, Compressor, RewritePlan
from relay.postgres.connection import PostgresConnection, limit_wait
from relay.postgres.log.blocks import BlockRow, copy_rows, encode_block, insert_row, read_row, read_rows
from relay.postgres.log.segments import SegmentTable, make_table, replace_table
from relay.store import Erased, Wanted

LOCK_S: Final = 5.0
"""Seconds that the exchange of a table waits for whoever reads the table."""


@dataclass(slots=True)
class TablePlan:
    """What has to be erased from a segment, and where."""

    found: RewritePlan = field(default_factory=RewritePlan)
    named: list[int] = field(default_factory=list)
    """Offsets of the blocks that name the users."""
    unread: list[int] = field(default_factory=list)
    """Offsets of the rows that nobody can read."""


def plan_table(db: PostgresConnection, segment: SegmentTable, wanted: Wanted) -> TablePlan:
    """Find these users in a segment. Raises psycopg.Error, Unsupported."""
    plan = TablePlan()
    for row in _read_all(db, segment):
        block = row.decode()
        if block is None:
            plan.unread.append(row.base)
            plan.found.unread += len(row.meta) + len(row.body)
        elif plan.found.add(block, wanted):
            plan.named.append(row.base)
    return plan


def find_ids(db: PostgresConnection, segment: SegmentTable, wanted: Wanted) -> dict[int, User]:
    """Read the ids that these users have in their events. Raises psycopg.Error, Unsupported."""
    blocks = (row.decode() for row in _read_all(db, segment))
    return wanted.find_more_ids(body for block in blocks if block is not None for body in block.bodies())


def rewrite_table(db: PostgresConnection, segment: SegmentTable, plan: TablePlan, wanted: Wanted) -> None:
    """Put a table without these users in the place of a segment's table. Raises psycopg.Error, Unsupported."""
    compressor = None
    with db.transaction_of(limit_wait(LOCK_S)):
        fresh = make_table(db)
        copy_rows(db, segment.name, fresh, [*plan.named, *plan.unread])
        for base in plan.named:
            row = read_row(db, segment.name, base)
            block = None if row is None else row.decode()
            if row is None or block is None:
                continue
            if row.is_compressed and compressor is None:
                compressor = Compressor()
            insert_row(db, fresh, encode_block(Erased(block, wanted).block, compressor if row.is_compressed else None))
        replace_table(db, segment, fresh)


def _read_all(db: PostgresConnection, segment: SegmentTable) -> Iterator[BlockRow]:
    """Yield the rows of a segment, with a pause after each piece: the work holds the interpreter's lock."""
    at = segment.base
    while rows := read_rows(db, segment.name, at, segment.end):
        began = time.perf_counter()
        yield from rows
        at = rows[-1].base + max(1, rows[-1].events)
        time.sleep(REST * (time.perf_counter() - began))
