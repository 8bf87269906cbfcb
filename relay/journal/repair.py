"""Mends a damaged journal: saves every event whose record is whole, and says which offsets are lost.

A segment is written anew beside the damaged one: its good records as they are, a record that stands for the lost events
in each place where some are missing. Lanes count those as expired. The new file takes the old one's place in one step;
the old one is kept as `NAME.log.damaged`. A crash on the way leaves either.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from relay.journal.inspect import Inspected, inspect
from relay.journal.lock import lock
from relay.journal.record import HEADER, TABLE_BYTES, decode, header_at, lost_record
from relay.journal.segment import PREFIX, put_in_place, read_salt, write_anew

DAMAGED: Final = ".damaged"
TABLE_START: Final = b'[["'
"""How the table of the kinds begins: the sign by which a record is found again behind damage."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be done to one segment."""

    segment: Inspected
    salt: int
    records: Sequence[bytes]
    saved: int
    """Events that are kept."""
    lost: Sequence[tuple[int, int]]
    """Offsets of which nothing is left."""

    @property
    def lost_events(self) -> int:
        """How many those are."""
        return sum(stop - start for start, stop in self.lost)


def plan(folder: Path, needed: int) -> list[Repair]:
    """What there is to repair; events below `needed` were acknowledged. Changes nothing. Raises OSError."""
    return [_planned(segment) for segment in inspect(folder, needed) if not segment.is_whole]


def repair(folder: Path, needed: int) -> list[Repair]:
    """Mend a journal; return what was done. Raises OSError if a relay runs with it, or the disk refuses."""
    held = lock(folder)
    try:
        repairs = plan(folder, needed)
        for one in repairs:
            _write(one)
        return repairs
    finally:
        os.close(held)


def _planned(segment: Inspected) -> Repair:
    with segment.path.open("rb") as file:
        salt = read_salt(file.fileno(), segment.base)
        data = file.read()
    if salt is None:
        salt, data = secrets.randbits(32), b""
    records, lost, offset, saved = [], [], segment.base, 0
    for start, stop, record in takewhile(lambda found: found[0] < segment.limit, whole_records(data, salt, offset)):
        if start > offset:
            lost.append((offset, start))
            records.append(lost_record(offset, start, salt))
        records.append(record)
        offset, saved = stop, saved + stop - start
    if offset < segment.limit:
        lost.append((offset, segment.limit))
        records.append(lost_record(offset, segment.limit, salt))
    return Repair(segment, salt, records, saved, lost)


def whole_records(data: bytes, salt: int, offset: int) -> Iterator[tuple[int, int, bytes]]:
    """Every record of a segment's bytes whose checksum is right, in order: first offset, the one behind, its bytes."""
    at = PREFIX.size
    while at < len(data):
        header = header_at(data, at)
        if header is None or header.offset < offset or decode(data, at, header, salt) is None:
            at = _next_start(data, at + 1)
            continue
        yield header.offset, header.offset + header.events, data[at : at + header.size]
        offset, at = header.offset + header.events, at + header.size


def _next_start(data: bytes, at: int) -> int:
    """Where the next record may start; the end of the data if none does."""
    ahead = HEADER.size + TABLE_BYTES
    found = data.find(TABLE_START, at + ahead)
    return len(data) if found < 0 else found - ahead


def _write(one: Repair) -> None:
    path = one.segment.path
    fresh = write_anew(path, one.salt, one.records)
    kept = path.with_name(path.name + DAMAGED)
    kept.unlink(missing_ok=True)
    kept.hardlink_to(path)
    put_in_place(fresh, path)
