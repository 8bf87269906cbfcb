"""Takes users' events out of segments that are no longer written to. Blocking: for a thread of its own.

Each event that goes leaves a placeholder at its offset; the rest of its record stays as it is. The new file is written
beside the old one, for the journal to put in its place: a crash leaves either, and doing it again changes nothing.

While it works it holds the interpreter's lock, so it rests in between: the event loop gets most of the time.
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relay.api import Block, User
from relay.journal.record import header_of, lost_record, meta_of
from relay.journal.segment import DAMAGED, Segment, SegmentReader, write_anew
from relay.journal.users import Erased, Wanted

PIECE_BYTES: Final = 256 << 10
LONGEST_ID: Final = 4096
"""Bytes; pieces overlap so far."""
REST: Final = 3.0
"""How long it rests after a piece, in terms of what that took."""


@dataclass(slots=True)
class RewritePlan:
    """What of a segment is to be erased."""

    gone: dict[int, frozenset[int]] = field(default_factory=dict)
    """Whose events these offsets are."""
    changed: dict[int, frozenset[int]] = field(default_factory=dict)
    """Who is named, among others, at these offsets."""
    before: set[int] = field(default_factory=set)
    """Offsets of what was erased before."""
    behind: int = 0
    """Bytes behind the last record: what a failed commit has left is nobody's event, but may name somebody."""

    @property
    def is_empty(self) -> bool:
        """Whether the segment can stay as it is."""
        return not self.gone and not self.changed and not self.behind


def plan(segment: Segment, wanted: Wanted) -> RewritePlan:
    """Look what of a segment is these users'. Raises Corrupt, OSError."""
    found = RewritePlan()
    with closing(SegmentReader(segment.path)) as reader:
        for block in _blocks(reader, segment.end):
            erased = Erased(block, wanted)
            found.gone |= erased.gone
            found.changed |= erased.changed
            if any(kind.is_erased for kind in block.kinds):
                offsets = zip(block.offsets, block.index, strict=True)
                found.before |= {offset for offset, kind in offsets if block.kinds[kind].is_erased}
        found.behind = os.fstat(reader.fd).st_size - reader.at
    return found


def more_ids(segment: Segment, wanted: Wanted) -> dict[int, User]:
    """The ids that these users have in their events. Raises Corrupt, OSError."""
    with closing(SegmentReader(segment.path)) as reader:
        return wanted.more_ids(body for block in _blocks(reader, segment.end) for body in block.bodies())


def rewrite(segment: Segment, wanted: Wanted) -> Path:
    """Write a segment without these users beside its file. Raises Corrupt, OSError."""
    with closing(SegmentReader(segment.path)) as reader:
        stat = os.fstat(reader.fd)
        fresh = write_anew(segment.path, reader.salt, _records(reader, segment.end, wanted))
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # by which it is known, after a restart, how old it is
    return fresh


def copies_of(folder: Path, wanted: Wanted) -> list[Path]:
    """The damaged segments that a repair has kept, of those that name one of the users. Raises OSError."""
    return [path for path in folder.glob(f"*{DAMAGED}") if _names(path, wanted)]


def _names(path: Path, wanted: Wanted) -> bool:
    before = b""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            if wanted.named_in((before + piece).decode(errors="replace")):
                return True
            before = piece[-LONGEST_ID:]
    return False


def _records(reader: SegmentReader, end: int, wanted: Wanted) -> Iterator[bytes]:
    offset, salt = reader.base, reader.salt
    for block in _blocks(reader, end):
        if block.offsets[0] > offset:
            yield lost_record(offset, block.offsets[0], salt)
        left = Erased(block, wanted).block
        meta = meta_of(left)
        yield header_of(left, meta, round(left.received * 1e6), salt) + meta + left.body
        offset = block.offsets[-1] + 1
    if offset < end:
        yield lost_record(offset, end, salt)


def _blocks(reader: SegmentReader, end: int) -> Iterator[Block]:
    """The blocks of a segment, with a rest after each piece."""
    while reader.offset < end:
        began = time.perf_counter()
        yield from reader.read(reader.offset, end, PIECE_BYTES)
        time.sleep(REST * (time.perf_counter() - began))
