"""Unreadable events of a journal: logged once, and held until they are saved in the table `damage`."""

import threading
from typing import Final

import structlog

from relay.store import Damage, merge_overlapping

RANGES_TOLD: Final = 1000
LOST_ADVICE: Final = "connectors that need them count them as damaged; relay status says what to do"
log = structlog.stdlib.get_logger()


class Lost:
    """The events that readers could not read. Each range is logged once. Threads share it."""

    def __init__(self) -> None:
        self._ranges: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self.events = 0
        """Unreadable events since the start."""
        self.unsaved: list[Damage] = []
        """Damage that is not in the database yet."""

    def knows(self, start: int, stop: int) -> bool:
        """Return whether that range was logged, or too many others were."""
        return (start, stop) in self._ranges or len(self._ranges) > RANGES_TOLD

    def add(self, found: Damage) -> None:
        """Log damage, and hold it."""
        with self._lock:
            if self.knows(found.start, found.stop):
                return
            self._ranges.add((found.start, found.stop))
        self.events = sum(last - first for first, last in merge_overlapping(self._ranges))
        self.unsaved.append(found)
        details = {"file": found.file, "events": found.stop - found.start, "reason": found.reason}
        details |= {"offset": found.start, "up_to_offset": found.stop}
        told = {} if found.saved is None else {"repair_saves": found.saved}
        log.error("events of the journal cannot be read", **details, **told, advice=LOST_ADVICE)

    def drop_saved(self, number: int) -> None:
        """Drop the first `number` entries of `unsaved`, which are on disk now."""
        del self.unsaved[:number]
