"""What of a journal could not be read: told once by the log, kept in the table `damage` of its database, and told by
`relay status` and others until an admin accepts or repairs it."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import structlog

from relay.journal.parked import connect
from relay.words import counted, ranges

SHOWN: Final = 3
RANGES_TOLD: Final = 1000
LOST_ADVICE: Final = "connectors that need them count them as damaged; relay status says what to do"
_NOTE: Final = """
    INSERT INTO damage (start, stop, file, reason, saved, met) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_READ: Final = "SELECT start, stop, file, reason, saved FROM damage WHERE accepted IS NULL ORDER BY start"
_ACCEPT: Final = "UPDATE damage SET accepted = ? WHERE accepted IS NULL"
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Damage:
    """The events from offset `start` up to `stop` cannot be read."""

    start: int
    stop: int
    file: str
    """The segment's name."""
    reason: str
    saved: int | None
    """Events of the file that a repair saves; None: there is nothing to repair."""


class Lost:
    """The events that readers could not read, each range told once. Threads share it."""

    def __init__(self) -> None:
        self._ranges: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self.events = 0
        """How many, since the start."""
        self.unsaved: list[Damage] = []
        """Those that the database does not know yet."""

    def knows(self, start: int, stop: int) -> bool:
        """Whether that range was told, or so many others were that it is not."""
        return (start, stop) in self._ranges or len(self._ranges) > RANGES_TOLD

    def add(self, found: Damage) -> None:
        """Tell of what is damaged or gone."""
        with self._lock:
            if self.knows(found.start, found.stop):
                return
            self._ranges.add((found.start, found.stop))
        self.events = sum(last - first for first, last in _united(self._ranges))
        self.unsaved.append(found)
        details = {"file": found.file, "events": found.stop - found.start, "reason": found.reason}
        details |= {"offset": found.start, "up_to_offset": found.stop}
        told = {} if found.saved is None else {"repair_saves": found.saved}
        log.error("events of the journal cannot be read", **details, **told, advice=LOST_ADVICE)

    def saved(self, number: int) -> None:
        """So many of the unsaved ones are on disk."""
        del self.unsaved[:number]


def _united(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same without what overlaps."""
    end = -1
    for start, stop in sorted(ranges):
        if stop > end:
            yield max(start, end), stop
            end = stop


def note_damage(db: sqlite3.Connection, found: Iterable[Damage]) -> None:
    """Keep what was met; what is known already stays as it is, accepted or not."""
    now = time.time()
    db.executemany(_NOTE, [(*astuple(one), now) for one in found])


def read_damage(db: sqlite3.Connection) -> list[Damage]:
    """What no admin has accepted so far."""
    return [Damage(*row) for row in db.execute(_READ)]


def said_of(found: Sequence[Damage]) -> str:
    """A sentence on it; "" if there is none."""
    if not found:
        return ""
    files = {one.file: [each for each in found if each.file == one.file] for one in found}
    events = sum(stop - start for start, stop in _united((one.start, one.stop) for one in found))
    shown, more = [*map(_said_of_file, files.values())][:SHOWN], len(files) - SHOWN
    rest = [f"and in {counted(more, 'more file')}"] if more > 0 else []
    return f"{counted(events, 'event')} cannot be read: {'; '.join([*shown, *rest])}"


def _said_of_file(found: Sequence[Damage]) -> str:
    offsets, first = ranges([*_united((one.start, one.stop) for one in found)]), found[0]
    saved = [one.saved for one in found if one.saved is not None]
    others = f"; its {counted(max(saved), 'other event')} can be read, and no connector loses them" if saved else ""
    return f"offsets {offsets} in {first.file} ({first.reason}{others})"


def was_damaged(folder: Path, offset: int) -> bool:
    """Whether an event could not be read at some time, accepted or not. Raises FileNotFoundError, sqlite3.Error."""
    query = "SELECT 1 FROM damage WHERE start <= ?1 AND stop > ?1"
    with closing(connect(folder, "ro")) as db:
        return db.execute(query, (offset,)).fetchone() is not None


def accept_damage(db: sqlite3.Connection) -> None:
    """An admin has seen to all that was met."""
    db.execute(_ACCEPT, (time.time(),))


def mark_repaired(folder: Path, files: Sequence[str]) -> None:
    """These files of a journal are repaired; `folder` may have no database. Raises sqlite3.Error."""
    with suppress(FileNotFoundError), closing(connect(folder, "rw")) as db:
        db.executemany(f"{_ACCEPT} AND file = ?", [(time.time(), file) for file in files])
