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
- What was acknowledged is known from a clean stop of the last run (`end_marker`), or as of the last save of the
  database. In the latter case, if the end is damaged or lost, the head leaves a gap: as many offsets as the room can
  have held events. A segment without events fills a gap at the end. It is written once the database knows of the loss.
- After each sync the writer looks whether the file is still where it was made, and as long. If somebody has removed or
  truncated it, what it held is written anew under its name before the group counts, as far as file and memory have it.
  A segment is a byte longer than its records, so that one that was truncated is shorter whatever was written since.
  If the folder is another one (an unmounted disk), groups fail until it is back.
- The folder is marked before the first compressed record, so that no relay begins with it that cannot read the record.
- The sender of a group that failed may find it delivered after all (the record was whole, only the sync failed, and the
  process died before a new segment began): at least once, never lost.
"""

import errno
import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from msgspec import Struct

from relay.api import Block, Kind
from relay.histogram import QUICK, Histogram
from relay.journal.compression import Compressor
from relay.journal.damage import Lost
from relay.journal.end_marker import remove_end, write_end
from relay.journal.identity import KnownJournal, OtherJournal, describe_mismatch, identify, write_identity
from relay.journal.lock import LOCK, lock
from relay.journal.record import HEADER, encode_header, encode_meta
from relay.journal.recovery import fill_hole, recover
from relay.journal.retention import choose_expendable, choose_segment_size
from relay.journal.salvage import salvage
from relay.journal.segment import (
    PREFIX,
    Segment,
    copy_segment,
    create_segment,
    make_path,
    mark_compressed,
    parse_salt,
    put_in_place,
    write_all,
    write_anew,
)
from relay.store import Clock, Damage, JournalLimits, make_block

MIB: Final = 1 << 20
NO_INODES: Final = "the journal's file system has no inodes left: remove files of others (df -i)"
FILES_TOLD: Final = 5
ENDED: Final = "the journal ended before them"
MOVED: Final = "journal.path leads to another folder than at the start: put that back, or restart relay"
TRUNCATED_ADVICE: Final = "find out what truncates it: logrotate with copytruncate does, for files that end in .log"
log = structlog.stdlib.get_logger()


class Open(Struct):
    """The segment that is being written."""

    fd: int
    salt: int
    path: Path
    inode: int
    size: int
    """Bytes as allocated."""
    at: int
    """The place of the next record, behind the last synced one."""


class Writer:
    """Writes the segments of one journal folder. `segments` is replaced, never changed: readers may use it freely."""

    def __init__(
        self, folder: Path, limits: JournalLimits, known: KnownJournal | None = None, clock: Clock | None = None
    ) -> None:
        """`known`: what the database knows of the journal. Raises OSError, OtherJournal."""
        if not folder.exists() and (why := describe_mismatch(folder, known)):  # and none is made in its place
            raise OtherJournal(why)
        self.folder = folder
        self.limits = limits
        self.keep = 0
        """Oldest offset that somebody still needs."""
        self.replay_floor = 0
        """Oldest offset a running replay needs; kept past retention while space allows."""
        self.room: float = math.inf
        """Bytes that the file system had beyond `min_free` at the last check."""
        self.syncs = Histogram(QUICK)
        """Seconds per fdatasync of a group."""
        self.lost = Lost()
        self.remembered: Callable[[], Sequence[Block]] = tuple
        """Returns the blocks in memory."""
        self.fillers: Callable[[], str] = str
        """Returns what fills the file system; "" if unknown."""
        self._open: Open | None = None
        self.stored = 0
        """Bytes of the records written since the start."""
        self._compressor: Compressor | None = None
        self._is_marked = False
        """Whether the folder is marked as one with compressed records."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(folder)
        try:
            self.identity = identify(folder, known)
            closed, is_copy = remove_end(folder), False
            if closed and closed.run and known and known.identity == self.identity:
                is_copy = closed.run < known.run and not known.is_closed
            self.run = (known.run if known else 0) + 1
            """The number of this start with the journal."""
            self.stopped = None if closed is None or is_copy else closed.head
            """The head with which the journal was closed before this start; None if it was not closed."""
            acknowledged = max(known.head if known else 0, self.stopped or 0)
            is_certain = known is None or known.is_closed or self.stopped == acknowledged
            unsure = 0 if is_certain else choose_segment_size(limits)
            found = recover(folder, acknowledged, unsure, is_copy=is_copy)
            self._place = folder.stat()
        except BaseException:
            os.close(self._lock)
            raise
        self.segments, self.head, self.problem = found.segments, found.head, found.problem
        self.trimmed = found.oldest
        """The offset below which events have left the journal for age or room. Gaps above it are damage."""
        self.newest = self.segments[-1].written if self.segments else None
        """Time of the last event at the start, in Unix seconds; None without any."""
        self.clock = clock or Clock(known.time if known and known.time else self.newest)
        end = self.segments[-1].end if self.segments else 0
        self.hole = Damage(end, self.head, make_path(folder, end).name, ENDED, saved=None) if end < self.head else None
        """The offsets between the last segment and the head at the start: events are lost there; None without any."""
        if self.hole is not None:
            self.lost.add(self.hole)

    @property
    def size(self) -> int:
        """Bytes of the segments on disk."""
        return sum(segment.size for segment in self.segments)

    def fill_hole(self) -> None:
        """Fill the hole at the end, so that the next start finds the head. Without room, the next start finds the hole
        again."""
        if self.hole is not None:
            kept = [segment for segment in self.segments if segment.base != self.hole.start]  # it held no event
            with suppress(OSError):
                self.segments = [*kept, fill_hole(self.folder, self.hole.start, self.hole.stop)]

    def write(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> Block:
        """Put a group on disk; return it as a block. Raises OSError, and keeps nothing of the group then."""
        received_us = time.time_ns() // 1000
        block = make_block(self.head, received_us, kinds, bodies)
        meta, body = encode_meta(block), block.body
        if self.limits.compress:
            meta, body = self._compress(meta, body, len(block))
        opened = self._open_for(HEADER.size + len(meta) + len(body))
        try:
            header = encode_header(block, meta, body, received_us, opened.salt)
            end = opened.at + write_all(opened.fd, [header, meta, body], opened.at)
            began = time.perf_counter()
            os.fdatasync(opened.fd)
            self.syncs.observe(time.perf_counter() - began)
        except OSError:
            self._seal(opened)
            raise
        if not _is_in_place(opened):
            self._put_back(opened, end, [block])
        self.stored += HEADER.size + len(meta) + len(body)
        opened.at = end
        self.head += len(block)
        active = self.segments[-1]
        active.end, active.written = self.head, received_us / 1e6
        return block

    def _compress(self, meta: bytes, body: bytes, events: int) -> tuple[bytes, bytes]:
        """Compress a record of so many events, if that pays. Raises OSError."""
        if self._compressor is None:
            self._compressor = Compressor()
        found = self._compressor.compress(meta, body, events)
        if found[0] is not meta and not self._is_marked:
            mark_compressed(self.folder)
            self._is_marked = True
        return found

    @property
    def _now(self) -> float:
        """The time by which segments expire."""
        return self.clock.now(self.limits.retention)

    def remove_expired(self) -> None:
        """Remove the expired segments that nobody needs."""
        try:
            self._check_segments()
        except OSError as error:
            log.error("the journal is not where it was", error=str(error))
            return
        self._measure_free()
        lacking = self.size - self.limits.max_size
        self._remove(choose_expendable(self.segments, self.limits, self.keep, self.replay_floor, self._now, lacking))

    def _check_segments(self) -> None:
        """Check that all segments are still there. Raises OSError."""
        if self._open is not None and not _is_in_place(self._open):
            self._put_back(self._open, self._open.at)
        self._find_missing()

    def seal(self, head: int) -> Sequence[Segment]:
        """Return the segments with events below `head`. They do not grow any more: the next group begins a segment."""
        if self._open is not None and self.segments[-1].base < min(head, self.head):
            self._seal(self._open)
        return [segment for segment in self.segments if segment.base < min(head, segment.end)]

    def replace(self, segment: Segment, fresh: Path) -> None:
        """Replace a segment by its rewritten file, if the segment is still there. Raises OSError."""
        if not any(kept is segment for kept in self.segments):
            fresh.unlink()
            return
        put_in_place(fresh, segment.path)
        segment.size = segment.path.stat().st_size

    def close(self) -> None:
        """Seal the open segment, and release the folder."""
        if self._open is not None:
            with suppress(OSError):
                self._check_segments()
        if self._open is not None:
            self._seal(self._open)
        with suppress(OSError):
            if self.is_home():
                write_end(self.folder, self.head, self.run)
        os.close(self._lock)

    def _put_back(self, opened: Open, end: int, fresh: Sequence[Block] = ()) -> None:
        """Write the open segment up to byte `end` under its name again; the next group begins a new segment.

        For a file that was removed, replaced or truncated. `fresh`: written, but not yet acknowledged. Raises OSError,
        and changes nothing then.
        """
        self._check_folder(opened)
        segment, stop = self.segments[-1], self.head + sum(map(len, fresh))
        if os.fstat(opened.fd).st_size < opened.size:
            self._rewrite(segment, stop, os.pread(opened.fd, end, 0), opened.salt, fresh)
        else:
            put_in_place(copy_segment(opened.fd, opened.path, end), opened.path)
            what = {"file": opened.path.name, "events": stop - segment.base}
            log.error("a journal segment was removed, and is written again", **what)
            segment.size = end
        os.close(opened.fd)
        self._open = None
        self._find_missing()

    def _rewrite(self, segment: Segment, stop: int, left: bytes, salt: int, fresh: Sequence[Block] = ()) -> None:
        """Rewrite a truncated segment up to offset `stop`, from the rest of it, from memory and from `fresh`.

        Raises OSError, and changes nothing then.
        """
        held = [block for block in self.remembered() if segment.base <= block.offsets[0] < stop]
        saved = salvage(left, [*held, *fresh], salt, segment.base, stop)
        put_in_place(write_anew(segment.path, salt, saved.records), segment.path)
        segment.size = segment.path.stat().st_size
        what = {"file": segment.path.name, "events": stop - segment.base, "lost": saved.lost_events}
        log.error("a journal segment was truncated, and is written again", **what, advice=TRUNCATED_ADVICE)
        for start, end in saved.lost:
            self.lost.add(Damage(start, end, segment.path.name, "the file was truncated", saved=None))

    def _check_folder(self, opened: Open) -> None:
        """Check that the folder is the opened one, or a new one in place of a removed one.

        Raises OSError if the folder was moved, or its disk unmounted: what is written here would be lost later.
        """
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
        if self._is_marked:
            mark_compressed(self.folder)

    def _find_missing(self) -> None:
        """Find the closed segments that somebody has removed or truncated. Raises OSError."""
        missing = []
        for segment in self.segments[:-1] if self._open else self.segments:
            try:
                size = segment.path.stat().st_size
            except OSError:
                missing.append(segment)
                continue
            if size < segment.size:
                left = segment.path.read_bytes()
                salt = parse_salt(left, segment.base)
                self._rewrite(segment, segment.end, left, secrets.randbits(32) if salt is None else salt)
        if not missing or not self.is_home():
            return
        self.segments = [segment for segment in self.segments if segment not in missing]
        events = sum(segment.end - segment.base for segment in missing)
        names = ", ".join(segment.path.name for segment in missing[:FILES_TOLD])
        log.error("journal segments were removed by somebody else", segments=len(missing), events=events, files=names)

    def is_home(self) -> bool:
        """Return whether the folder is still the opened one. Any thread may call it."""
        try:
            return os.path.samestat(self.folder.stat(), self._place)
        except OSError:
            return False

    def _open_for(self, needed: int) -> Open:
        """Return the open segment if the record fits, else a new one. Raises OSError."""
        if self._open is not None and self._open.at + needed < self._open.size:
            return self._open
        size = max(choose_segment_size(self.limits), needed + PREFIX.size + 1)
        expendable, lack = self._find_room(size)
        if lack:
            raise OSError(errno.ENOSPC, lack)
        self._remove(expendable)
        self.segments = [segment for segment in self.segments if segment.base != self.head]  # it held no event
        fd, salt = self._create_segment(size)
        if self._open is not None:
            self._seal(self._open)
        path = make_path(self.folder, self.head)
        self._open = Open(fd, salt, path, os.fstat(fd).st_ino, size, PREFIX.size)
        fresh = Segment(path, self.head, self.head, size, time.time())
        self.segments = [*self.segments, fresh]
        return self._open

    def _create_segment(self, size: int) -> tuple[int, int]:
        """Create the next segment. Raises OSError; on a full file system it says what fills it."""
        try:
            return create_segment(self.folder, self.head, size)
        except OSError as error:
            if error.errno == errno.ENOSPC and has_no_inodes(self.folder):
                raise OSError(errno.ENOSPC, NO_INODES) from None
            if error.errno == errno.ENOSPC and (fillers := self.fillers()):
                raise OSError(errno.ENOSPC, f"{error.strerror}; the file system holds {fillers}") from None
            raise

    def find_lack(self) -> str:
        """Return why the next group would find no room; "" if it would, or a segment is open. Raises OSError."""
        if self._open is not None:
            return ""
        _, lack = self._find_room(choose_segment_size(self.limits))
        return lack

    def _find_room(self, size: int) -> tuple[Sequence[Segment], str]:
        """Return the segments to remove for a segment of so many bytes, and why that would not suffice; "" if it would.
        Raises OSError."""
        limits, free, least = self.limits, self._measure_free(), self.limits.min_free
        lacking = size + max(self.size - limits.max_size, least - free)
        expendable = choose_expendable(self.segments, limits, self.keep, self.replay_floor, self._now, lacking)
        if lacking <= sum(segment.size for segment in expendable):
            return expendable, ""
        if free - size >= least:
            return (), "the journal has reached its max_size and every event in it is still needed"
        parts = f"the next segment {math.ceil(size / MIB)} MiB, journal.min_free {math.ceil(least / MIB)} MiB"
        numbers = f"{free // MIB:.0f} MiB free, {math.ceil((size + least) / MIB)} MiB needed: {parts}"
        filled = f"; it holds {fillers}" if (fillers := self.fillers()) else ""
        lower = ", or lower journal.min_free" if free >= size else ""
        return (), f"the journal's file system is full ({numbers}{filled}): free some space{lower}"

    def _measure_free(self) -> float:
        """Return the bytes that the file system has for relay."""
        if not self.limits.min_free:
            return math.inf
        system = os.statvfs(self.folder)
        free = system.f_bavail * system.f_frsize
        self.room = free - self.limits.min_free
        return free

    def _seal(self, opened: Open) -> None:
        """Cut the open segment behind its last good record. After a failure the file is only longer than needed."""
        if not _is_in_place(opened):
            with suppress(OSError):
                self._put_back(opened, opened.at)
                return
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
        self.trimmed = end
        log.info("journal segments removed", segments=len(segments), events=end - first, up_to_offset=end)
        if end > self.keep:
            reason = "no room, and journal.on_full is expire_oldest"
            log.error("events removed that were still needed", events=end - max(first, self.keep), reason=reason)


def has_no_inodes(folder: Path) -> bool:
    """Return whether the file system can hold no further file, however much room it has."""
    system = os.statvfs(folder)
    return system.f_files > 0 and system.f_favail == 0


def _is_in_place(opened: Open) -> bool:
    """Return whether the open file still has its name and its length."""
    try:
        found = os.stat(opened.path)  # noqa: PTH116  it is done for each commit
    except OSError:
        return False
    return found.st_ino == opened.inode and found.st_size >= opened.size
