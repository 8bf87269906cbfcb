"""Saves what the lanes of a fleet know, in one transaction, and tells the journal what is still needed of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from relay.deliver.keeping import Keeping
from relay.deliver.lane import Snapshot
from relay.deliver.live import LiveLane
from relay.deliver.replays import Replays
from relay.journal import Cursor, Journal, State

NOTE_S: Final = 3600.0
"""How often it is saved how late it is: after a restart that tells whether the clock has jumped."""


class Saver:
    """Knows what is on disk."""

    def __init__(self, journal: Journal, state: State, replays: Replays) -> None:
        self._journal, self._state, self._replays = journal, state, replays
        self._keeping = Keeping(journal, state)
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
        await self._keeping.keep(lanes, needed, min(needed, self._replays.position(needed)))

    async def _write(self, head: int, live: Mapping[LiveLane, Snapshot], replays: Mapping[int, Snapshot]) -> None:
        cursors = {lane.name: snapshot.cursor for lane, snapshot in live.items()}
        changed = {name: cursor for name, cursor in cursors.items() if self._saved.get(name) != (cursor, head)}
        again = [one for snapshot in live.values() for one in (*snapshot.delivered_again, *snapshot.retaken)]
        attempts = [one for snapshot in live.values() for one in snapshot.attempts]
        damage = self._journal.unsaved_damage
        if changed or replays or again or attempts or damage or self._is_news(head):
            others = {number: snapshot.cursor for number, snapshot in replays.items()}
            await self._state.save(changed, head, again, others, attempts, damage)
            self._journal.saved_damage(len(damage))
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
