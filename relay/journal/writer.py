"""The one that writes segments. Blocking: the journal runs it on a thread of its own.

How it fails and recovers:

- A group counts once its record is written and synced; only then does `head` move and may anybody be told.
- Any error while writing or syncing ends the segment behind its last good record (a failed sync must not be repeated:
  the kernel may have dropped the pages and say yes the second time). The group fails, the next one goes to a new
  segment. Its first offset is the head, so whatever a tail that could not be cut off holds lies at offsets that another
  segment owns and is never read.
- If there is no room for a new segment the group fails, and each group after it looks for room again. The open segment
  stays: what fits into its rest is still taken. Nothing is removed in vain, for a group that is refused all the same.
- On start the last segment is read to its last whole record and cut there: that is where a crash tore it. What was torn
  was never acknowledged. Files are not appended to again; the first group opens a new segment.
- A bad record below the first offset of a later segment is damage, not a torn tail: reading it raises Corrupt.
- The sender of a group that failed may find it delivered after all (the record was whole, only the sync failed, and the
  process died before a new segment began): at least once, never lost.
"""

import errno
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import structlog

from relay.api import Block, Kind
from relay.histogram import QUICK, Histogram
from relay.journal.lock import lock
from relay.journal.record import HEADER, header_of, make_block, meta_of
from relay.journal.retention import Limits, expendable
from relay.journal.segment import (
    FRESH,
    PREFIX,
    SUFFIX,
    Corrupt,
    Segment,
    base_of,
    create,
    find_end,
    is_blank,
    is_torn,
    path_of,
    put_in_place,
    sync_folder,
    write_all,
)

MIB: Final = 1 << 20
NO_INODES: Final = "the journal's file system has no inodes left: remove files of others (df -i)"
log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class Open:
    """The segment that is being written."""

    fd: int
    salt: int
    at: int
    """Where the next record goes: behind the last one that is synced."""


class Writer:
    """The segments of one journal folder. `segments` is replaced, never changed in place: readers look at it freely."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self.keep = 0
        """Events from this offset on are still needed by somebody."""
        self.liked = 0
        """Events from this offset on are not to grow too old, if there is room."""
        self.room: float = math.inf
        """Bytes that the file system had to spare, beyond `min_free`, at the last look."""
        self.syncs = Histogram(QUICK)
        """Seconds that each fdatasync of a group took."""
        self._open: Open | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(folder)
        try:
            self.segments = recover(folder)
        except BaseException:
            os.close(self._lock)
            raise
        self.head = self.segments[-1].end if self.segments else 0

    @property
    def size(self) -> int:
        """Bytes that the segments take on disk."""
        return sum(segment.size for segment in self.segments)

    def write(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> Block:
        """Put a group on disk and return it as a block. Raises OSError, and then none of it counts."""
        received_us = time.time_ns() // 1000
        block = make_block(self.head, received_us, kinds, bodies)
        meta = meta_of(block)
        opened = self._room(HEADER.size + len(meta) + len(block.body))
        try:
            header = header_of(block, meta, received_us, opened.salt)
            opened.at += write_all(opened.fd, [header, meta, block.body], opened.at)
            began = time.perf_counter()
            os.fdatasync(opened.fd)
            self.syncs.observe(time.perf_counter() - began)
        except OSError:
            self._seal(opened)
            raise
        self.head += len(block)
        active = self.segments[-1]
        active.end, active.written = self.head, received_us / 1e6
        return block

    def tidy(self) -> None:
        """Remove the segments that retention no longer wants and nobody needs."""
        self._free()
        lacking = self.size - self.limits.max_size
        self._remove(expendable(self.segments, self.limits, self.keep, self.liked, time.time(), lacking))

    def roll(self) -> Sequence[Segment]:
        """Have the next group begin a new segment; return those there are up to now, which no longer grow."""
        if self._open is not None and self.head > self.segments[-1].base:
            self._seal(self._open)
        return [segment for segment in self.segments if segment.end > segment.base]

    def replace(self, segment: Segment, fresh: Path) -> None:
        """Have a segment that was written anew take the old one's place, if that is still there. Raises OSError."""
        if not any(kept is segment for kept in self.segments):
            fresh.unlink()
            return
        put_in_place(fresh, segment.path)
        segment.size = segment.path.stat().st_size

    def close(self) -> None:
        """Seal the segment that is being written, and let go of the folder."""
        if self._open is not None:
            self._seal(self._open)
        os.close(self._lock)

    def _room(self, needed: int) -> Open:
        """The open segment if the record fits, else a new one."""
        if self._open is not None and self._open.at + needed <= self.segments[-1].size:
            return self._open
        size = max(self.limits.segment_size, needed + PREFIX.size)
        self._make_room(size)
        self.segments = [segment for segment in self.segments if segment.base != self.head]  # it held no event
        fd, salt = self._create(size)
        if self._open is not None:
            self._seal(self._open)
        self._open = Open(fd, salt, PREFIX.size)
        fresh = Segment(path_of(self.folder, self.head), self.head, self.head, size, time.time())
        self.segments = [*self.segments, fresh]
        return self._open

    def _create(self, size: int) -> tuple[int, int]:
        """Make the next segment. Raises OSError."""
        try:
            return create(self.folder, self.head, size)
        except OSError as error:
            if error.errno == errno.ENOSPC and has_no_inodes(self.folder):
                raise OSError(errno.ENOSPC, NO_INODES) from None
            raise

    def _make_room(self, size: int) -> None:
        """Remove what is in the way of a segment of so many bytes. Raises OSError if it would not fit all the same."""
        limits, free = self.limits, self._free()
        lacking = size + max(self.size - limits.max_size, limits.min_free - free)
        going = expendable(self.segments, limits, self.keep, self.liked, time.time(), lacking)
        if lacking > sum(segment.size for segment in going):
            raise OSError(errno.ENOSPC, _full(size, limits, free))
        self._remove(going)

    def _free(self) -> float:
        """Bytes that the file system has for us."""
        if not self.limits.min_free:
            return math.inf
        system = os.statvfs(self.folder)
        free = system.f_bavail * system.f_frsize
        self.room = free - self.limits.min_free
        return free

    def _seal(self, opened: Open) -> None:
        """Cut the open segment behind its last good record. If that fails it is merely longer than need be."""
        self._open = None
        with suppress(OSError):
            os.ftruncate(opened.fd, opened.at)
            os.fsync(opened.fd)
        self.segments[-1].size = os.fstat(opened.fd).st_size
        os.close(opened.fd)

    def _remove(self, segments: Sequence[Segment]) -> None:
        if not segments:
            return
        self.segments = self.segments[len(segments) :]
        for segment in segments:
            segment.path.unlink(missing_ok=True)
        first, end = segments[0].base, segments[-1].end
        log.info("journal segments removed", segments=len(segments), events=end - first, up_to_offset=end)
        if end > self.keep:
            reason = "no room, and journal.on_full is expire_oldest"
            log.error("events removed that were still needed", events=end - max(first, self.keep), reason=reason)


def has_no_inodes(folder: Path) -> bool:
    """Tell whether the file system can hold no further file, however much room it has."""
    system = os.statvfs(folder)
    return system.f_files > 0 and system.f_favail == 0


def _full(size: int, limits: Limits, free: float) -> str:
    """Why there is no room, and what to do."""
    if free - size < limits.min_free:
        numbers = f"{free / MIB:.0f} MiB free, {size / MIB:.0f} MiB wanted, {limits.min_free / MIB:.0f} MiB kept free"
        return f"the journal's file system is full ({numbers}): free some space, or lower journal.min_free"
    return "the journal has reached its max_size and every event in it is still needed"


def recover(folder: Path) -> list[Segment]:
    """Look at the segments of a folder and cut what a crash tore off the last one. Raises Corrupt."""
    for left in folder.glob(f"*{FRESH}"):  # by a crash, before it took the place of another
        left.unlink()
    paths = sorted(folder.glob(f"[0-9]*{SUFFIX}"), key=base_of)
    segments = []
    for path, following in pairwise(paths):
        stat = path.stat()
        segments.append(Segment(path, base_of(path), base_of(following), stat.st_size, stat.st_mtime))
    return segments + ([last] if paths and (last := _recover_last(folder, paths[-1])) else [])


def _recover_last(folder: Path, path: Path) -> Segment | None:
    try:
        end, at, written = find_end(path)
    except Corrupt:
        if not is_blank(path):
            raise
        path.unlink()  # the crash came between the creation of the file and its first sync: it never held an event
        sync_folder(folder)
        return None
    if is_torn(path, at):
        log.warning("journal cut at its last whole record", file=path.name, byte=at, next_offset=end)
    with path.open("r+b") as file:
        file.truncate(at)
        os.fsync(file.fileno())
    return Segment(path, base_of(path), end, at, written or path.stat().st_mtime)
