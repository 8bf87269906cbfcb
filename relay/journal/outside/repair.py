"""Repairs a damaged journal: saves every event in a whole record, and names the lost offsets.

A segment is rewritten beside the damaged one: its good records as they are, and a record for lost events in each gap.
Lanes count those as damaged. The new file replaces the old one in one step, and the old one is kept as
`NAME.log.damaged`. A crash leaves either file.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from relay.journal.lock import lock
from relay.journal.outside.inspected import Inspected, inspect_all
from relay.journal.record import encode_lost_record, find_records, is_readable
from relay.journal.segment import DAMAGED, PREFIX, put_in_place, read_salt, write_anew


class Repair(Struct, frozen=True):
    """The repair of one segment."""

    segment: Inspected
    salt: int
    records: Sequence[bytes]
    saved: int
    """Events kept."""
    lost: Sequence[tuple[int, int]]
    """Lost offsets."""

    @property
    def lost_events(self) -> int:
        """Number of lost events."""
        return sum(stop - start for start, stop in self.lost)


def plan_repair(folder: Path, needed: int) -> list[Repair]:
    """Find what needs a repair. Events below `needed` were acknowledged. Changes nothing. Raises OSError."""
    return [plan_segment(segment) for segment in inspect_all(folder, needed) if not segment.is_whole]


def repair(folder: Path, needed: int) -> list[Repair]:
    """Repair a journal; return what was done. Raises OSError if a relay runs with it, or the disk refuses."""
    held = lock(folder)
    try:
        repairs = plan_repair(folder, needed)
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
    """Find what one segment needs repaired. Changes nothing. Raises OSError."""
    with segment.path.open("rb") as file:
        salt = read_salt(file.fileno(), segment.base)
        data = file.read()
    if salt is None:
        salt, data = secrets.randbits(32), b""
    records, lost, offset, saved = [], [], segment.base, 0
    for at, header in find_records(data, PREFIX.size, salt, offset):
        if header.offset >= segment.limit:
            break
        if not is_readable(data, at, header):
            continue
        if header.offset > offset:
            lost.append((offset, header.offset))
            records.append(encode_lost_record(offset, header.offset, salt))
        records.append(data[at : at + header.size])
        offset, saved = header.end, saved + header.events
    if offset < segment.limit:
        lost.append((offset, segment.limit))
        records.append(encode_lost_record(offset, segment.limit, salt))
    return Repair(segment, salt, records, saved, lost)
