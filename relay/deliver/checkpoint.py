"""Checkpoints: saves what the lanes of a fleet know in one transaction, and tells the journal what is still needed."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from relay.deliver.lane import Snapshot
from relay.deliver.live_lane import LiveLane
from relay.deliver.replays import Replays
from relay.journal import Journal
from relay.state import Cursor, State

TIDY_S: Final = 60.0
NEARLY_FULL: Final = 0.8
FULL_ADVICE: Final = "this connector holds its events; once the journal is full, senders are refused with 503"
log = structlog.stdlib.get_logger()


class RetentionFloor:
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
            await self._journal.set_needed(needed, liked)
            self._kept, self._kept_at = needed, now
        if now - self._tidied_at > TIDY_S:
            self._tidied_at = now
            await self._state.forget_attempts(self._journal.oldest)

    def _tell_if_full(self, lanes: Sequence[LiveLane], needed: int) -> None:
        fill = self._journal.measure_fill(needed)
        if fill > NEARLY_FULL:
            slowest = min(lanes, key=lambda lane: lane.cursor.position).name
            pending = self._journal.head - needed
            log.error("journal fills up", used=f"{fill:.0%}", connector=slowest, pending=pending, advice=FULL_ADVICE)


NOTE_S: Final = 3600.0
"""How often it is saved how late it is: after a restart that tells whether the clock has jumped."""


class Saver:
    """Knows what is on disk."""

    def __init__(self, journal: Journal, state: State, replays: Replays) -> None:
        self._journal, self._state, self._replays = journal, state, replays
        self._retention_floor = RetentionFloor(journal, state)
        self._saved: dict[str, tuple[Cursor, int]] = {}
        self._noted = -1, False, 0.0
        """The head, whether the clock was ahead, and when that was saved."""

    async def save(self, lanes: Sequence[LiveLane], also_needed: Callable[[], int] | None) -> None:
        """Save the cursors that have moved; `also_needed`: from which offset on somebody beside the lanes needs the
        journal. Raises sqlite3.Error, OSError."""
        head = self._journal.head
        live = {lane: lane.snapshot() for lane in lanes}
        replays = self._replays.snapshots()
        await self._write(head, live, replays)
        for lane, snapshot in live.items():
            lane.saved(snapshot)
        self._replays.saved(replays)
        also = [also_needed()] if also_needed else []
        needed = min([*also, *(snapshot.cursor.position for snapshot in live.values())], default=head)
        await self._retention_floor.keep(lanes, needed, min(needed, self._replays.position(needed)))

    async def _write(self, head: int, live: Mapping[LiveLane, Snapshot], replays: Mapping[int, Snapshot]) -> None:
        cursors = {lane.name: snapshot.cursor for lane, snapshot in live.items()}
        changed = {name: cursor for name, cursor in cursors.items() if self._saved.get(name) != (cursor, head)}
        again = [one for snapshot in live.values() for one in (*snapshot.delivered_again, *snapshot.retaken)]
        attempts = [one for snapshot in live.values() for one in snapshot.attempts]
        damage = self._journal.unsaved_damage
        if changed or replays or again or attempts or damage or self._is_news(head):
            others = {number: snapshot.cursor for number, snapshot in replays.items()}
            await self._state.save(changed, head, again, others, attempts, damage)
            self._journal.drop_saved_damage(len(damage))
            self._saved |= {name: (cursor, head) for name, cursor in changed.items()}
            self._noted = head, self._journal.clock.ahead > 0, time.monotonic()

    def _is_news(self, head: int) -> bool:
        """Whether what the database knows of journal and clock is no longer so, or an hour old."""
        known, ahead, at = self._noted
        self._journal.clock.now()
        return head != known or ahead != (self._journal.clock.ahead > 0) or time.monotonic() - at > NOTE_S

    def forget(self, lane: str) -> None:
        """A lane of this name begins anew, if ever."""
        self._saved.pop(lane, None)
