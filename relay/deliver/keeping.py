"""Tells the journal what is still needed of it, and admins when that becomes too much."""

import time
from collections.abc import Sequence
from typing import Final

import structlog

from relay.deliver.live import LiveLane
from relay.journal import Journal, State

TIDY_S: Final = 60.0
NEARLY_FULL: Final = 0.8
FULL_ADVICE: Final = "this connector holds its events; once the journal is full, senders are refused with 503"
log = structlog.stdlib.get_logger()


class Keeping:
    """What is kept in the journal for the lanes of a fleet."""

    def __init__(self, journal: Journal, state: State) -> None:
        self._journal, self._state = journal, state
        self._kept, self._kept_at = -1, 0.0
        self._tidied_at = 0.0

    async def keep(self, lanes: Sequence[LiveLane], needed: int, liked: int) -> None:
        """Keep the events from `needed` on and, while there is room, from `liked` on; let go of others when there is
        news, or when something may have grown old."""
        if lanes:
            self._tell_if_full(lanes, needed)
        now = time.monotonic()
        if needed != self._kept or now - self._kept_at > TIDY_S:
            await self._journal.keep(needed, liked)
            self._kept, self._kept_at = needed, now
        if now - self._tidied_at > TIDY_S:
            self._tidied_at = now
            await self._state.forget_attempts(self._journal.oldest)

    def _tell_if_full(self, lanes: Sequence[LiveLane], needed: int) -> None:
        fill = self._journal.fill(needed)
        if fill > NEARLY_FULL:
            slowest = min(lanes, key=lambda lane: lane.cursor.position).name
            pending = self._journal.head - needed
            log.error("journal fills up", used=f"{fill:.0%}", connector=slowest, pending=pending, advice=FULL_ADVICE)
