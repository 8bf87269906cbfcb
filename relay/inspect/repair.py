"""Mends a damaged journal: saves every event whose record is whole, and says which offsets are lost.

A segment is written anew beside the damaged one: its good records as they are, a record that stands for the lost events
in each place where some are missing. Lanes count those as damaged. The new file takes the old one's place in one step;
the old one is kept as `NAME.log.damaged`. A crash on the way leaves either.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.inspect.segments import Inspected, inspect
from relay.journal import DAMAGED, PREFIX, encode_lost_record, find_records, lock, put_in_place, read_salt, write_anew


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
    return [plan_segment(segment) for segment in inspect(folder, needed) if not segment.is_whole]


def repair(folder: Path, needed: int) -> list[Repair]:
    """Mend a journal; return what was done. Raises OSError if a relay runs with it, or the disk refuses."""
    held = lock(folder)
    try:
        repairs = plan(folder, needed)
        for one in repairs:
            path = one.segment.path
            fresh = write_anew(path, one.salt, one.records)
            if os.geteuid() == 0:  # relay's own user has to read what root repairs
                about = path.stat()
                os.chown(fresh, about.st_uid, about.st_gid)
            kept = path.with_name(path.name + DAMAGED)
            kept.unlink(missing_ok=True)
            kept.hardlink_to(path)
            put_in_place(fresh, path)
        return repairs
    finally:
        os.close(held)


def plan_segment(segment: Inspected) -> Repair:
    """What there is to repair in one segment. Changes nothing. Raises OSError."""
    with segment.path.open("rb") as file:
        salt = read_salt(file.fileno(), segment.base)
        data = file.read()
    if salt is None:
        salt, data = secrets.randbits(32), b""
    records, lost, offset, saved = [], [], segment.base, 0
    for at, header in find_records(data, PREFIX.size, salt, offset):
        if header.offset >= segment.limit:
            break
        if header.offset > offset:
            lost.append((offset, header.offset))
            records.append(encode_lost_record(offset, header.offset, salt))
        records.append(data[at : at + header.size])
        offset, saved = header.end, saved + header.events
    if offset < segment.limit:
        lost.append((offset, segment.limit))
        records.append(encode_lost_record(offset, segment.limit, salt))
    return Repair(segment, salt, records, saved, lost)
