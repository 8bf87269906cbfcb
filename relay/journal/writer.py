"""The one that writes segments. Blocking: the journal runs it on a thread of its own.

How it fails and recovers:

- A group counts once its record is written and synced; only then does `head` move and may anybody be told.
- Any error while writing or syncing ends the segment behind its last good record (a failed sync must not be repeated:
  the kernel may have dropped the pages and say yes the second time). The group fails, the next one goes to a new
  segment. Its first offset is the head, so whatever a tail that could not be cut off holds lies at offsets that another
  segment owns and is never read.
- If there is no room for a new segment the group fails, and each group after it looks for room again. The open segment
  stays: what fits into its rest is still taken. Nothing is removed in vain, for a group that is refused all the same.
- On start the last segment is read to its last whole record. What a crash tore off behind it was never acknowledged,
  and is cut. Files are not appended to again; the first group opens a new segment.
- Bytes before a later whole record, or before the head that the database knows, are damage and no torn tail. The file
  stays as it is, the head is behind all that was acknowledged, and readers pass over what they cannot read.
- After each sync the writer looks whether the file is still where it was made. If somebody has removed it, what it
  holds is written anew under its name before the group counts. If the folder is another one (an unmounted disk),
  groups fail until it is back.
- The sender of a group that failed may find it delivered after all (the record was whole, only the sync failed, and the
  process died before a new segment began): at least once, never lost.
"""

import errno
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import structlog

from relay.api import Block, Kind
from relay.histogram import QUICK, Histogram
from relay.journal.clock import Clock
from relay.journal.folders import LOCK
from relay.journal.identity import Known, OtherJournal, identify, mismatch, write_identity
from relay.journal.lock import lock
from relay.journal.record import HEADER, header_of, make_block, meta_of
from relay.journal.retention import Limits, expendable
from relay.journal.segment import (
    DAMAGED,
    FRESH,
    PREFIX,
    Corrupt,
    Segment,
    base_of,
    copy_of,
    create,
    find_end,
    is_blank,
    path_of,
    put_in_place,
    segment_files,
    sync_folder,
    write_all,
)
from relay.words import counted

MIB: Final = 1 << 20
NO_INODES: Final = "the journal's file system has no inodes left: remove files of others (df -i)"
FILES_TOLD: Final = 5
RANGES_TOLD: Final = 1000
DAMAGE_ADVICE: Final = "what can be read behind it is delivered; relay journal check says what is lost"
MOVED: Final = "journal.path leads to another folder than at the start: put that back, or restart relay"
LOST_ADVICE: Final = "connectors count them as expired; relay journal check says what is damaged"
OLDER_ADVICE: Final = "what is missing counts as expired; if this is an old copy: put the right one back, and replay it"
log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class Open:
    """The segment that is being written."""

    fd: int
    salt: int
    path: Path
    inode: int
    at: int
    """Where the next record goes: behind the last one that is synced."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start finds in a folder."""

    segments: list[Segment]
    head: int
    """The offset that the next event gets."""
    problem: str
    """What of the acknowledged events is damaged or missing at the end of the journal; "" if nothing is."""


class Lost:
    """The events that readers could not read, each range told once. Threads share it."""

    def __init__(self) -> None:
        self._ranges: set[tuple[int, int]] = set()
        self.events = 0
        """How many, since the start."""

    def add(self, file: str, start: int, stop: int, reason: str) -> None:
        """These offsets of a file are damaged or gone."""
        if (start, stop) in self._ranges or len(self._ranges) > RANGES_TOLD:
            return
        self._ranges.add((start, stop))
        self.events = sum(last - first for first, last in _united(self._ranges))
        details = {"file": file, "offset": start, "up_to_offset": stop, "reason": reason}
        log.error("events of the journal cannot be read", **details, advice=LOST_ADVICE)


def _united(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same without what overlaps."""
    end = -1
    for start, stop in sorted(ranges):
        if stop > end:
            yield max(start, end), stop
            end = stop


class Writer:
    """The segments of one journal folder. `segments` is replaced, never changed in place: readers look at it freely."""

    def __init__(self, folder: Path, limits: Limits, known: Known | None = None, clock: Clock | None = None) -> None:
        """`known`: what the database knows of the journal. Raises OSError, OtherJournal."""
        if not folder.exists() and (why := mismatch(folder, known)):  # and none is made in its place
            raise OtherJournal(why)
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
        self.lost = Lost()
        self._open: Open | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(folder)
        try:
            self.identity = identify(folder, known)
            found = recover(folder, known.head if known else 0)
            self._place = folder.stat()
        except BaseException:
            os.close(self._lock)
            raise
        self.segments, self.head, self.problem = found.segments, found.head, found.problem
        self.clock = clock or Clock(known.time if known and known.time else self._newest)

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
            end = opened.at + write_all(opened.fd, [header, meta, block.body], opened.at)
            began = time.perf_counter()
            os.fdatasync(opened.fd)
            self.syncs.observe(time.perf_counter() - began)
        except OSError:
            self._seal(opened)
            raise
        if not _is_in_place(opened):
            self._put_back(opened, end)
        opened.at = end
        self.head += len(block)
        active = self.segments[-1]
        active.end, active.written = self.head, received_us / 1e6
        return block

    def tidy(self) -> None:
        """Remove the segments that retention no longer wants and nobody needs."""
        try:
            self._look()
        except OSError as error:
            log.error("the journal is not where it was", error=str(error))
            return
        self._free()
        lacking = self.size - self.limits.max_size
        self._remove(expendable(self.segments, self.limits, self.keep, self.liked, self.clock.now(), lacking))

    def _look(self) -> None:
        """See whether all segments are still there. Raises OSError."""
        if self._open is not None and not _is_in_place(self._open):
            self._put_back(self._open, self._open.at)
        self._miss()

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
            with suppress(OSError):
                self._look()
        if self._open is not None:
            self._seal(self._open)
        os.close(self._lock)

    @property
    def _newest(self) -> float | None:
        """When the last event was received, in Unix seconds; None if there is none."""
        return self.segments[-1].written if self.segments else None

    def _put_back(self, opened: Open, end: int) -> None:
        """Write what the open segment holds up to byte `end` under its name again, which leads elsewhere or nowhere,
        and have the next group begin a new segment. Raises OSError, and then nothing has changed."""
        self._claim(opened)
        fresh = copy_of(opened.fd, opened.path, end)
        put_in_place(fresh, opened.path)
        events = self.head - self.segments[-1].base
        log.error("a journal segment was removed, and is written again", file=opened.path.name, events=events)
        os.close(opened.fd)
        self._open, self.segments[-1].size = None, end
        self._miss()

    def _claim(self, opened: Open) -> None:
        """Make sure that the folder is the one that was opened, or one in place of it if that was removed. Raises
        OSError: it was moved, or its disk unmounted, so that what is written here would be lost when it is back."""
        try:
            place = self.folder.stat()
        except FileNotFoundError:
            if os.fstat(opened.fd).st_nlink:
                raise OSError(errno.ESTALE, MOVED, str(self.folder)) from None
            self.folder.mkdir(mode=0o700, parents=True)
            self._place = place = self.folder.stat()
        if not os.path.samestat(place, self._place):
            raise OSError(errno.ESTALE, MOVED, str(self.folder))
        if not (self.folder / LOCK).exists():
            held, self._lock = self._lock, lock(self.folder)
            os.close(held)
        write_identity(self.folder, self.identity)

    def _miss(self) -> None:
        """Notice which of the segments that are no longer written somebody has removed."""
        sealed = self.segments[:-1] if self._open else self.segments
        missing = [segment for segment in sealed if not segment.path.exists()]
        if not missing or not self.is_home():
            return
        self.segments = [segment for segment in self.segments if segment not in missing]
        events = sum(segment.end - segment.base for segment in missing)
        names = ", ".join(segment.path.name for segment in missing[:FILES_TOLD])
        log.error("journal segments were removed by somebody else", segments=len(missing), events=events, files=names)

    def is_home(self) -> bool:
        """Whether the folder is still the one that was opened. Any thread may ask."""
        try:
            return os.path.samestat(self.folder.stat(), self._place)
        except OSError:
            return False

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
        path = path_of(self.folder, self.head)
        self._open = Open(fd, salt, path, os.fstat(fd).st_ino, PREFIX.size)
        fresh = Segment(path, self.head, self.head, size, time.time())
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
        going = expendable(self.segments, limits, self.keep, self.liked, self.clock.now(), lacking)
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


def _is_in_place(opened: Open) -> bool:
    """Whether the file that is written still has its name."""
    try:
        return os.stat(opened.path).st_ino == opened.inode  # noqa: PTH116  it is done for each commit
    except OSError:
        return False


def _full(size: int, limits: Limits, free: float) -> str:
    """Why there is no room, and what to do."""
    if free - size < limits.min_free:
        numbers = f"{free / MIB:.0f} MiB free, {size / MIB:.0f} MiB wanted, {limits.min_free / MIB:.0f} MiB kept free"
        return f"the journal's file system is full ({numbers}): free some space, or lower journal.min_free"
    return "the journal has reached its max_size and every event in it is still needed"


def recover(folder: Path, acknowledged: int = 0) -> Recovered:
    """Look at the segments of a folder and cut what a crash tore off the last one; events below `acknowledged` are
    never cut. Raises OSError."""
    for left in folder.glob(f"*{FRESH}"):  # by a crash, before it took the place of another
        left.unlink()
    paths = segment_files(folder)
    segments = []
    for path, following in pairwise(paths):
        stat = path.stat()
        segments.append(Segment(path, base_of(path), base_of(following), stat.st_size, stat.st_mtime))
    problem = ""
    if paths:
        last, problem = _recover_last(folder, paths[-1], acknowledged)
        segments += [last] if last else []
    end = segments[-1].end if segments else 0
    if acknowledged > end:
        problem = f"offsets {end} to {acknowledged - 1} are missing: the journal ends before them"
        log.error("the journal is older than relay.db", folder=str(folder), problem=problem, advice=OLDER_ADVICE)
    return Recovered(segments, max(end, acknowledged), problem)


def _recover_last(folder: Path, path: Path, acknowledged: int) -> tuple[Segment | None, str]:
    """The last segment, and what is wrong with it if acknowledged events in it are damaged: then it stays as it is, and
    ends where they do."""
    base, stat = base_of(path), path.stat()
    try:
        found = find_end(path)
    except Corrupt:
        return _recover_headless(folder, path, acknowledged)
    end = max(found.end, acknowledged)
    if end == found.good or (found.end == found.good and not found.torn):  # if the end is missing, recover says so
        if found.torn:
            log.warning("journal cut at its last whole record", file=path.name, byte=found.used, next_offset=found.end)
        with path.open("r+b") as file:
            file.truncate(found.used)
            os.fsync(file.fileno())
        return Segment(path, base, found.end, found.used, found.received or stat.st_mtime), ""
    lost = end - base - found.events
    problem = f"{path.name} is damaged from offset {found.good} (byte {found.used}) on: {counted(lost, 'event')} lost"
    _tell_damage(path, found.good, lost)
    return Segment(path, base, end, stat.st_size, found.received or stat.st_mtime), problem


def _recover_headless(folder: Path, path: Path, acknowledged: int) -> tuple[Segment | None, str]:
    """The same of a file that does not begin as a segment."""
    base, stat = base_of(path), path.stat()
    if acknowledged > base:
        problem = f"{path.name} is no segment any more: {counted(acknowledged - base, 'event')} lost"
        _tell_damage(path, base, acknowledged - base)
        return Segment(path, base, acknowledged, stat.st_size, stat.st_mtime), problem
    if is_blank(path):
        path.unlink()  # the crash came between the creation of the file and its first sync: it never held an event
        sync_folder(folder)
        return None, ""
    kept = path.replace(path.with_name(path.name + DAMAGED))
    sync_folder(folder)
    log.error("a file of the journal is no segment, and is set aside", file=path.name, kept_as=kept.name)
    return None, f"{path.name} does not begin as a segment; it is kept as {kept.name}, and what it held is lost"


def _tell_damage(path: Path, offset: int, lost: int) -> None:
    what = {"file": path.name, "offset": offset, "lost": lost}
    log.error("the newest segment is damaged, relay goes on behind it", **what, advice=DAMAGE_ADVICE)
