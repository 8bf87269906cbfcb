"""Checkpoints: saves what the lanes of a fleet know in one transaction, and tells the journal what is still needed."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from relay.deliver.live_lane import LiveLane
from relay.deliver.replays import Replays
from relay.store import Cursor, Log, State

TIDY_S: Final = 60.0
NEARLY_FULL: Final = 0.8
FULL_ADVICE: Final = "this connector holds its events; once the journal is full, senders are refused with 503"
log = structlog.stdlib.get_logger()


class RetentionFloor:
    """Tells the journal what the lanes of a fleet still need."""

    def __init__(self, journal: Log, state: State) -> None:
        self._journal, self._state = journal, state
        self._kept, self._kept_at = -1, 0.0
        self._forgot_at = 0.0

    async def keep(self, lanes: Sequence[LiveLane], needed: int, replay_floor: int) -> None:
        """Keep the events from `needed` on and, while space allows, from `replay_floor` on. Tell the journal after a
        change, and when events may have grown old."""
        if lanes and (fill := self._journal.measure_needed(needed) / self._journal.capacity) > NEARLY_FULL:
            slowest = min(lanes, key=lambda lane: lane.cursor.position).name
            pending = self._journal.head - needed
            log.error("journal fills up", used=f"{fill:.0%}", connector=slowest, pending=pending, advice=FULL_ADVICE)
        now = time.monotonic()
        if needed != self._kept or now - self._kept_at > TIDY_S:
            await self._journal.keep(needed, replay_floor)
            self._kept, self._kept_at = needed, now
        if now - self._forgot_at > TIDY_S:
            self._forgot_at = now
            await self._state.forget_attempts(self._journal.oldest)


NOTE_S: Final = 3600.0
"""How often it is saved how late it is: after a restart that tells whether the clock has jumped."""


class Checkpoint:
    """Saves the cursors of lanes and replays, and knows what is on disk."""

    def __init__(self, journal: Log, state: State, replays: Replays) -> None:
        self._journal, self._state, self._replays = journal, state, replays
        self._retention_floor = RetentionFloor(journal, state)
        self._saved: dict[str, tuple[Cursor, int]] = {}
        self._saved_state = -1, False, 0.0
        """The head, whether the clock was ahead, and when both were saved."""

    async def save(self, lanes: Sequence[LiveLane], also_needed: Callable[[], int] | None) -> None:
        """Save the cursors that have moved. `also_needed` returns the oldest offset that someone beside the lanes
        needs. Raises Unavailable."""
        head = self._journal.head
        live = {lane: lane.snapshot() for lane in lanes}
        replays = self._replays.snapshots()
        cursors = {lane.name: snapshot.cursor for lane, snapshot in live.items()}
        changed = {name: cursor for name, cursor in cursors.items() if self._saved.get(name) != (cursor, head)}
        again = [one for snapshot in live.values() for one in (*snapshot.delivered_again, *snapshot.delivered_parts)]
        attempts = [one for snapshot in live.values() for one in snapshot.attempts]
        damage = self._journal.unsaved_damage
        known, was_ahead, saved_at = self._saved_state
        self._journal.clock.now()  # brings `ahead` up to date
        is_due = head != known or was_ahead != (self._journal.clock.ahead > 0) or time.monotonic() - saved_at > NOTE_S
        if changed or replays or again or attempts or damage or is_due:
            others = {number: snapshot.cursor for number, snapshot in replays.items()}
            await self._state.save(changed, head, again, others, attempts, damage)
            self._journal.drop_saved_damage(len(damage))
            self._saved |= {name: (cursor, head) for name, cursor in changed.items()}
            self._saved_state = head, self._journal.clock.ahead > 0, time.monotonic()
        for lane, snapshot in live.items():
            lane.mark_saved(snapshot)
        self._replays.mark_saved(replays)
        also = [also_needed()] if also_needed else []
        needed = min([*also, *(cursor.position for cursor in cursors.values())], default=head)
        await self._retention_floor.keep(lanes, needed, min(needed, self._replays.find_floor(needed)))

    def forget(self, lane: str) -> None:
        """Forget what is on disk of a lane that has ended."""
        self._saved.pop(lane, None)
