"""The end of a journal at a start: what a crash tore off is cut, what was acknowledged never is. Blocking."""

import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog

from relay.journal.segment import (
    DAMAGED,
    FRESH,
    PREFIX,
    Corrupt,
    Segment,
    base_of,
    create,
    find_end,
    is_blank,
    path_of,
    segment_files,
    sync_folder,
)
from relay.words import counted

SMALLEST: Final = 10
"""Bytes that an event takes in a segment at least: two numbers of four, and `{}`."""
BEHIND_ALL: Final = "behind all that may have been acknowledged"
"""A part of the problem if the head is a guess: some offsets below it may never have been given to an event."""
DAMAGE_ADVICE: Final = "what can be read behind it is delivered; relay journal check says what is lost"
OLDER_ADVICE: Final = "what is missing counts as damaged; if this is an old copy: put the right one back, and replay it"
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start finds in a folder."""

    segments: list[Segment]
    head: int
    """The offset that the next event gets."""
    oldest: int
    """The first offset that it still has; 0 if there is no event."""
    problem: str
    """What of the acknowledged events is damaged or missing at the end of the journal; "" if nothing is."""


@dataclass(frozen=True, slots=True)
class Last:
    """What a start finds of the last segment."""

    segment: Segment | None
    problem: str = ""
    """What is wrong with it if acknowledged events in it are damaged: it stays as it is, and ends where they do."""
    room: int = 0
    """Bytes at its end that can hold acknowledged events of which nothing is known."""


def recover(folder: Path, acknowledged: int = 0, unsure: int = 0) -> Recovered:
    """Look at the segments of a folder and cut what a crash tore off the last one; events below `acknowledged` are
    never cut. `unsure`: the bytes of a segment if later ones may have been acknowledged as well, because that was not
    saved before the relay died; then the head is behind all that may have been. Raises OSError."""
    for left in folder.glob(f"*{FRESH}"):  # by a crash, before it took the place of another
        left.unlink()
    paths = segment_files(folder)
    segments = []
    for path, following in pairwise(paths):
        stat = path.stat()
        segments.append(Segment(path, base_of(path), base_of(following), stat.st_size, stat.st_mtime))
    last = _recover_last(folder, paths[-1], acknowledged, unsure) if paths else Last(None)
    segments += [last.segment] if last.segment else []
    problem, room, end = last.problem, last.room, segments[-1].end if segments else 0
    oldest = segments[0].base if segments else 0
    if acknowledged > end:
        least = "at least " if unsure else ""
        problem, room = f"{least}offsets {end} to {acknowledged - 1} are missing: the journal ended before them", unsure
        log.error("the journal is older than relay.db", folder=str(folder), problem=problem, advice=OLDER_ADVICE)
    head = max(end, acknowledged)
    if unsure and room >= SMALLEST:
        head += room // SMALLEST
        problem += f"; offsets go on at {head}, {BEHIND_ALL}"
        segments += _mark_head(folder, head, segments[-1].written if segments else time.time())
    return Recovered(segments, head, oldest, problem)


def _mark_head(folder: Path, head: int, written: float) -> list[Segment]:
    """Have an empty segment tell the next start what the head is. If there is no room for it, that finds it anew."""
    try:
        fd, _ = create(folder, head, PREFIX.size)
    except OSError:
        return []
    os.close(fd)
    return [Segment(path_of(folder, head), head, head, PREFIX.size, written)]


def _recover_last(folder: Path, path: Path, acknowledged: int, unsure: int) -> Last:
    """What is left of the last segment."""
    base, stat = base_of(path), path.stat()
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
    _tell_damage(path, found.good, lost)
    room = max(stat.st_size, unsure) - found.used if found.end == found.good else 0
    segment = Segment(path, base, end, stat.st_size, found.received or stat.st_mtime)
    return Last(segment, f"{where}: {_at_least(lost, unsure and room)} lost", room)


def _recover_headless(folder: Path, path: Path, acknowledged: int, unsure: int) -> Last:
    """The same of a file that does not begin as a segment."""
    base, stat = base_of(path), path.stat()
    room = max(stat.st_size, unsure)
    if acknowledged > base:
        lost = acknowledged - base
        _tell_damage(path, base, lost)
        problem = f"{path.name} is no segment any more: {_at_least(lost, unsure)} lost"
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


def _at_least(lost: int, unsure: int) -> str:
    return f"{'at least ' if unsure else ''}{counted(lost, 'event')}"


def _tell_damage(path: Path, offset: int, lost: int) -> None:
    what = {"file": path.name, "offset": offset, "lost": lost}
    log.error("the newest segment is damaged, relay goes on behind it", **what, advice=DAMAGE_ADVICE)
