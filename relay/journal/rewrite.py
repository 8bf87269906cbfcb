"""Removes users' events from closed segments. Blocking: runs in a thread of its own.

Each removed event leaves a tombstone at its offset. The rest of its record stays. The new file is written beside the
old one, and the journal puts it in place. A crash leaves either file, and a repetition changes nothing.

The work holds the interpreter's lock, so it pauses in between and leaves most of the time to the event loop.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relay.api import Block, User
from relay.journal.compression import Compressor, holds_compressed
from relay.journal.record import encode_lost_record, encode_record
from relay.journal.segment import DAMAGED, Segment, SegmentReader, write_anew
from relay.store import Erased, Wanted

PIECE_BYTES: Final = 256 << 10
LONGEST_ID: Final = 4096
"""Bytes by which pieces overlap."""
REST: Final = 3.0
"""The pause after a piece, as a multiple of the time that the piece took."""


@dataclass(slots=True)
class RewritePlan:
    """What has to be erased from a segment."""

    erased: dict[int, frozenset[int]] = field(default_factory=dict)
    """The users whose events are at these offsets."""
    changed: dict[int, frozenset[int]] = field(default_factory=dict)
    """The users who are named, among others, at these offsets."""
    before: set[int] = field(default_factory=set)
    """Offsets of events erased before."""
    unread: int = 0
    """Bytes that nobody can read, and that may name somebody: those behind the last record are left from a failed
    commit."""

    @property
    def is_empty(self) -> bool:
        """Whether the segment can stay as it is."""
        return not self.erased and not self.changed and not self.unread

    def add(self, block: Block, wanted: Wanted) -> bool:
        """Add what a block holds of these users; return whether it holds anything."""
        erased = Erased(block, wanted)
        self.erased |= erased.erased
        self.changed |= erased.changed
        if any(kind.is_erased for kind in block.kinds):
            offsets = zip(block.offsets, block.index, strict=True)
            self.before |= {offset for offset, kind in offsets if block.kinds[kind].is_erased}
        return bool(erased.erased or erased.changed)


def plan_rewrite(segment: Segment, wanted: Wanted) -> RewritePlan:
    """Find these users in a segment. Raises Corrupt, OSError."""
    found = RewritePlan()
    with closing(SegmentReader(segment.path)) as reader:
        for block in _read_blocks(reader, segment.end):
            found.add(block, wanted)
        found.unread = os.fstat(reader.fd).st_size - reader.at
    return found


def find_more_ids(segment: Segment, wanted: Wanted) -> dict[int, User]:
    """Read the ids that these users have in their events. Raises Corrupt, OSError."""
    with closing(SegmentReader(segment.path)) as reader:
        return wanted.find_more_ids(body for block in _read_blocks(reader, segment.end) for body in block.bodies())


def rewrite(segment: Segment, wanted: Wanted) -> Path:
    """Write a segment without these users beside its file. Raises Corrupt, OSError."""
    with closing(SegmentReader(segment.path)) as reader:
        stat = os.fstat(reader.fd)
        fresh = write_anew(segment.path, reader.salt, _make_records(reader, segment.end, wanted))
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # by which it is known, after a restart, how old it is
    return fresh


def remove_copies(folder: Path, wanted: Wanted) -> list[Path]:
    """Remove the damaged segments kept by a repair that may name one of the users; return them. Raises OSError.

    What is damaged in a compressed record cannot be searched, so a segment with such a record may name anybody.
    """
    found = []
    for path in folder.glob(f"*{DAMAGED}"):
        before = b""
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                data = before + piece
                if holds_compressed(data) or wanted.find_named(data.decode(errors="replace")):
                    found.append(path)
                    break
                before = piece[-LONGEST_ID:]
    for path in found:
        path.unlink()
    return found


def _make_records(reader: SegmentReader, end: int, wanted: Wanted) -> Iterator[bytes]:
    offset, salt, compressor = reader.base, reader.salt, None
    for block in _read_blocks(reader, end):
        if block.offsets[0] > offset:
            yield encode_lost_record(offset, block.offsets[0], salt)
        if reader.is_compressed and compressor is None:
            compressor = Compressor()
        yield encode_record(Erased(block, wanted).block, salt, compressor)
        offset = block.offsets[-1] + 1
    if offset < end:
        yield encode_lost_record(offset, end, salt)


def _read_blocks(reader: SegmentReader, end: int) -> Iterator[Block]:
    """Yield the blocks of a segment, with a pause after each piece."""
    while reader.offset < end:
        began = time.perf_counter()
        yield from reader.read(reader.offset, end, PIECE_BYTES)
        time.sleep(REST * (time.perf_counter() - began))
