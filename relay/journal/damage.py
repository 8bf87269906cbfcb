"""What of a journal could not be read: told once by the log, and held for the table `damage` until it is saved."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

RANGES_TOLD: Final = 1000
LOST_ADVICE: Final = "connectors that need them count them as damaged; relay status says what to do"
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
        self.events = sum(last - first for first, last in united(self._ranges))
        self.unsaved.append(found)
        details = {"file": found.file, "events": found.stop - found.start, "reason": found.reason}
        details |= {"offset": found.start, "up_to_offset": found.stop}
        told = {} if found.saved is None else {"repair_saves": found.saved}
        log.error("events of the journal cannot be read", **details, **told, advice=LOST_ADVICE)

    def saved(self, number: int) -> None:
        """So many of the unsaved ones are on disk."""
        del self.unsaved[:number]


def united(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same without what overlaps."""
    end = -1
    for start, stop in sorted(ranges):
        if stop > end:
            yield max(start, end), stop
            end = stop
