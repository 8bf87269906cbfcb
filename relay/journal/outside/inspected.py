"""A segment as a bystander finds it: what is good, and where damage begins."""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relay.api import Block
from relay.journal.live.tail_reader import READ_BYTES
from relay.journal.record import HEADER
from relay.journal.segment import Corrupt, SegmentReader, list_segment_files, parse_base, read_written
from relay.store import CheckedPart, Condition, Passed, ignore_position
from relay.words import format_count

ENDLESS: Final = 1 << 63


@dataclass(slots=True)
class Inspected:
    """A segment file, with its findings after its blocks were read."""

    path: Path
    base: int
    stop: int | None
    """The start of the next segment; None for the last one."""
    needed: int
    """The offset below which events were acknowledged, and must be there."""
    condition: Condition = "unread"
    end: int = field(init=False)
    """The offset behind the last good event."""
    used: int = 0
    """The byte behind the last good record."""
    behind: int = 0
    """Bytes behind that record up to the last one that is not zero."""
    first: float | None = None
    """When the first event was received, in Unix seconds."""
    last: float | None = None
    lost: int = 0
    """Events that an earlier repair could not save."""

    def __post_init__(self) -> None:
        self.end = self.base

    @property
    def is_whole(self) -> bool:
        """Whether nothing acknowledged is missing. A torn tail was never acknowledged."""
        return self.condition in ("good", "open", "torn")

    def __str__(self) -> str:
        match self.condition:
            case "torn":
                return f"torn tail of {self.behind} bytes at byte {self.used}"
            case "damaged":
                return f"damaged at byte {self.used} offset {self.end}"
            case "gap":
                return f"gap from {self.end} to {self.limit}"
        return f"{self.condition}, {format_count(self.lost, 'event')} lost" if self.lost else self.condition

    @property
    def limit(self) -> int:
        """The offset up to which the segment must be good."""
        return self.needed if self.stop is None else self.stop

    def describe(self) -> CheckedPart:
        """Return the findings as a value."""
        return CheckedPart(
            path=str(self.path), base=self.base, condition=self.condition, end=self.end, used=self.used,
            behind=self.behind, first=self.first, last=self.last, lost=self.lost, events=self.end - self.base,
            said=str(self),
        )  # fmt: skip

    def read_blocks(self, start: int = 0) -> Iterator[Block]:
        """Yield the blocks from the one with `start` on, up to the end or the first damage.

        Raises FileNotFoundError if retention has removed the segment.
        """
        for _ in range(2):  # the first time it may just have been created
            with suppress(Corrupt):
                reader = SegmentReader(self.path)
                break
        else:
            with self.path.open("rb") as file:
                self._classify_end(file.fileno(), file.read(HEADER.size))
            if self.condition == "torn":
                self.condition = "damaged"  # a file that does not begin as a segment is no crash's work
            return
        with closing(reader):
            yield from self._read(reader, start)

    def _read(self, reader: SegmentReader, start: int) -> Iterator[Block]:
        """Read in large pieces, and record by record where a piece is bad.

        What is still bad at a second read is not a record that was just being written.
        """
        stop = ENDLESS if self.stop is None else self.stop
        piece, bad_at = READ_BYTES, -1
        self.used = reader.at
        while reader.offset < stop:
            try:
                found = reader.read(max(start, reader.offset), stop, piece)
            except Corrupt:
                header = os.pread(reader.fd, HEADER.size, self.used)
                if bad_at == self.used or not any(header):
                    self._classify_end(reader.fd, header)
                    return
                reader.at, reader.offset, bad_at = self.used, self.end, self.used
                piece = HEADER.size
                continue
            if not start:
                self.lost += reader.offset - self.end - sum(map(len, found))
            self.used, self.end = reader.at, reader.offset
            if found:
                self.first = found[0].received if self.first is None else self.first
                self.last = found[-1].received
            yield from found
        self.condition = "good"

    def _classify_end(self, fd: int, header: bytes) -> None:
        """Name what follows the good records, by its bytes. `header`: the first of them."""
        if any(header):
            self.behind = len(read_written(fd, self.used))
        if self.end < self.limit:
            self.condition = "damaged" if self.behind else "gap"
        elif self.behind:
            self.condition = "torn"
        else:
            self.condition = "open" if header else "good"


def list_segments(folder: Path, needed: int = 0) -> list[Inspected]:
    """List the segments of a journal folder, the oldest first, unread. Raises FileNotFoundError.

    Events below `needed` were acknowledged (`acknowledged`). Without it, damage in the last segment looks like the torn
    tail of a crash.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no journal")
    paths = list_segment_files(folder)
    bases = [parse_base(path) for path in paths]
    return [
        Inspected(path, base, stop, needed) for path, base, stop in zip(paths, bases, [*bases[1:], None], strict=False)
    ]


def inspect_all(folder: Path, needed: int = 0, passed: Passed = ignore_position) -> list[Inspected]:
    """Read all segments of a journal from the first to the last byte. Raises FileNotFoundError, OSError."""
    found: list[Inspected] = []
    for segment in list_segments(folder, needed):
        try:
            for block in segment.read_blocks():
                passed(block.offsets[-1] + 1)
        except FileNotFoundError:
            found.clear()
        else:
            found.append(segment)
    return found
