"""Finds the end of a journal at a start. Cuts what a crash tore off, never what was acknowledged. Blocking."""

import os
import secrets
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from relay.journal.compression import SMALLEST
from relay.journal.record import encode_lost_record
from relay.journal.retention import MAX_SEGMENT_BYTES
from relay.journal.segment import (
    DAMAGED,
    FRESH,
    MARK,
    Corrupt,
    Segment,
    find_end,
    is_blank,
    list_segment_files,
    make_path,
    parse_base,
    put_in_place,
    sync_folder,
    write_anew,
)
from relay.words import format_count

BEHIND_ALL: Final = "behind all that may have been acknowledged"
"""Part of the problem if the head is a guess. Some offsets below it may belong to no event."""
DAMAGE_ADVICE: Final = "what can be read behind it is delivered; relay journal check says what is lost"
OLDER_ADVICE: Final = "what is missing counts as damaged; if this is an old copy: put the right one back, and replay it"
log = structlog.stdlib.get_logger()


class Recovered(Struct, frozen=True):
    """The journal as a start finds it."""

    segments: list[Segment]
    head: int
    """The offset of the next event. It is behind the last segment if offsets are missing there: `fill_hole`."""
    oldest: int
    """The oldest offset left; 0 without any event."""
    problem: str
    """Damage to acknowledged events, or their loss, at the end of the journal; "" without any."""


class Last(Struct, frozen=True):
    """The last segment as a start finds it."""

    segment: Segment | None
    problem: str = ""
    """Damage to acknowledged events in it. A damaged segment stays as it is, and ends where those events end."""
    room: int = 0
    """Bytes at its end that can hold unknown acknowledged events."""


def recover(folder: Path, acknowledged: int = 0, unsure: int = 0, *, is_copy: bool = False) -> Recovered:
    """Check the segments of a folder, and cut what a crash tore off the last one. Raises OSError.

    Events below `acknowledged` are never cut. `unsure`: bytes of a segment, if later events may have been acknowledged
    without being saved. If the end is lost or damaged, the head is then behind all that may have been acknowledged.
    `is_copy`: whether the files are older than the last run, which may have acknowledged later events.
    """
    for left in folder.glob(f"*{FRESH}"):  # by a crash, before it took the place of another
        if left.name != MARK:
            left.unlink()
    paths = list_segment_files(folder)
    segments = []
    for path, following in pairwise(paths):
        stat = path.stat()
        segments.append(Segment(path, parse_base(path), parse_base(following), stat.st_size, stat.st_mtime))
    last = _recover_last(folder, paths[-1], acknowledged, unsure) if paths else Last(None)
    segments += [last.segment] if last.segment else []
    problem, room, end = last.problem, last.room, segments[-1].end if segments else 0
    oldest = segments[0].base if segments else 0
    if is_copy and acknowledged <= end:
        problem = f"the journal is an older copy, and events from offset {end} on may be missing"
    elif acknowledged > end:
        least = "at least " if unsure else ""
        problem = f"{least}offsets {end} to {acknowledged - 1} are missing: the journal ended before them"
    if is_copy or acknowledged > end:
        room = MAX_SEGMENT_BYTES if unsure else 0  # of any size, as nobody knows how many files are lost
        log.error("the journal is older than relay.db", folder=str(folder), problem=problem, advice=OLDER_ADVICE)
    head = max(end, acknowledged)
    if unsure and room >= SMALLEST:
        head += room // SMALLEST
        problem += f"; offsets go on at {head}, {BEHIND_ALL}"
    return Recovered(segments, head, oldest, problem)


def fill_hole(folder: Path, start: int, head: int) -> Segment:
    """Write a segment without events from offset `start` up to the head. It tells the next start the head, and readers
    that nothing is to be found there. Raises OSError."""
    path, salt = make_path(folder, start), secrets.randbits(32)
    put_in_place(write_anew(path, salt, [encode_lost_record(start, head, salt)]), path)
    return Segment(path, start, head, path.stat().st_size, time.time())


def _recover_last(folder: Path, path: Path, acknowledged: int, unsure: int) -> Last:
    """Recover the last segment."""
    base, stat = parse_base(path), path.stat()
    try:
        found = find_end(path)
    except Corrupt:
        return _recover_headless(folder, path, acknowledged, unsure)
    end = max(found.end, acknowledged)
    if end == found.good or (found.end == found.good and not found.torn):  # if the end is missing, recover says so
        if found.torn:
            log.warning("journal cut at its last whole record", file=path.name, byte=found.used, next_offset=found.end)
        with path.open("r+b") as file:
            file.truncate(found.used)
            os.fsync(file.fileno())
        return Last(Segment(path, base, found.end, found.used, found.received or stat.st_mtime))
    lost = end - base - found.events
    where = f"{path.name} is damaged from offset {found.good} (byte {found.used}) on"
    _log_damage(path, found.good, lost)
    room = max(stat.st_size, unsure) - found.used if found.end == found.good else 0
    segment = Segment(path, base, end, stat.st_size, found.received or stat.st_mtime)
    return Last(segment, f"{where}: {_format_lost(lost, unsure and room)} lost", room)


def _recover_headless(folder: Path, path: Path, acknowledged: int, unsure: int) -> Last:
    """Recover a file that does not begin as a segment."""
    base, stat = parse_base(path), path.stat()
    room = max(stat.st_size, unsure)
    if acknowledged > base:
        lost = acknowledged - base
        _log_damage(path, base, lost)
        problem = f"{path.name} is no segment any more: {_format_lost(lost, unsure)} lost"
        return Last(Segment(path, base, acknowledged, stat.st_size, stat.st_mtime), problem, room)
    if is_blank(path):
        path.unlink()  # the crash came between the creation of the file and its first sync: it never held an event
        sync_folder(folder)
        return Last(None)
    kept = path.replace(path.with_name(path.name + DAMAGED))
    sync_folder(folder)
    log.error("a file of the journal is no segment, and is set aside", file=path.name, kept_as=kept.name)
    problem = f"{path.name} does not begin as a segment; it is kept as {kept.name}, and what it held is lost"
    return Last(None, problem, room)


def _format_lost(lost: int, unsure: int) -> str:
    return f"{'at least ' if unsure else ''}{format_count(lost, 'event')}"


def _log_damage(path: Path, offset: int, lost: int) -> None:
    what = {"file": path.name, "offset": offset, "lost": lost}
    log.error("the newest segment is damaged, relay goes on behind it", **what, advice=DAMAGE_ADVICE)
