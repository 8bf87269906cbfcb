"""The replays under way: temporary lanes beside those of the connectors, over old ranges of the journal.

How it fails and recovers: a replay's cursor is saved with the others, in the row in which it was asked for, so it goes
on after a restart where it was. The live cursors know nothing of it. The journal waits for a replay no longer than
until it needs the space: what is gone by then counts as expired in the replay's own books, what cannot be read as
damaged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from relay.deliver.lane import Lane, Snapshot
from relay.deliver.live_lane import LiveLane
from relay.state import Cursor, State, remove_cuts_of_replays
from relay.threads import ADMIN

TOLD: Final = ("delivered", "parked", "expired", "damaged")
"""Of the outcomes those that are told when a replay ends."""
log = structlog.stdlib.get_logger()


class Replays:
    """Those that admins have asked for, for the connectors that run."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lanes: dict[int, Lane] = {}
        self._started: dict[int, asyncio.Task[None]] = {}
        self._over: set[int] = set()
        """Those whose lane has ended."""
        self._saved: dict[int, Cursor] = {}

    async def look(self, live: Mapping[str, LiveLane]) -> None:
        """Make lanes for new replays beside those that are there then, stop those that were cancelled. Raises
        sqlite3.Error."""
        asked = await self._state.read_replays()
        lanes = {name: lane for name, lane in live.items() if not lane.stops}
        wanted = {replay.number: replay for replay in asked if replay.connector in lanes}
        for number in self._lanes.keys() - wanted:
            self._lanes[number].stop()
        for number in sorted(wanted.keys() - self._lanes):
            self._lanes[number] = lanes[wanted[number].connector].replay(wanted[number])

    async def tidy(self) -> None:
        """Let go of what was kept for replays that are over. Raises sqlite3.Error."""
        numbers = {replay.number for replay in await self._state.read_replays()}
        with suppress(OSError):  # what stays there does no harm
            await ADMIN.run(remove_cuts_of_replays, self._state.folder, numbers)

    @property
    def lanes(self) -> Mapping[int, Lane]:
        """Those that run, by their numbers."""
        return {**self._lanes}

    def start(self, group: asyncio.TaskGroup) -> None:
        """Run those that do not run yet."""
        for number in self._lanes.keys() - self._started.keys():
            self._started[number] = group.create_task(self._run(number, self._lanes[number]), name=f"replay {number}")

    async def _run(self, number: int, lane: Lane) -> None:
        told = log.bind(replay=number, connector=lane.name)
        told.info("replay begins", offset=lane.cursor.position)
        await lane.run()
        self._over.add(number)
        counts = lane.cursor.counts
        done = {name: getattr(counts, name) for name in TOLD}
        told.info("replay is done" if lane.ended else "replay stopped", offset=lane.cursor.position, **done)

    def end(self, connectors: Sequence[str]) -> list[asyncio.Task[None]]:
        """Have the replays to these connectors end where they are; return their tasks."""
        ending = self._of(connectors)
        for number in ending:
            self._lanes[number].stop()
        return [self._started[number] for number in ending if number in self._started]

    def forget(self, connectors: Sequence[str]) -> None:
        """Those that have ended, and are saved, are not done yet: the next look begins them again."""
        for number in self._of(connectors):
            self._lanes.pop(number).close()
            self._started.pop(number, None)
            self._over.discard(number)

    def _of(self, connectors: Sequence[str]) -> list[int]:
        return [number for number, lane in self._lanes.items() if lane.name in connectors]

    def stop(self) -> None:
        """Begin nothing new."""
        for lane in self._lanes.values():
            lane.stop()

    def snapshots(self) -> Mapping[int, Snapshot]:
        """What is to be saved; hand it to `saved` once it is. What is over and saved is forgotten."""
        found = {number: lane.snapshot() for number, lane in self._lanes.items()}
        changed = {number: one for number, one in found.items() if one.cursor != self._saved.get(number)}
        for number in self._over - changed.keys():
            self._over.remove(number)
            self._lanes.pop(number).close()
            del self._started[number]  # if it is wanted still, the next look begins it again
        return changed

    def saved(self, snapshots: Mapping[int, Snapshot]) -> None:
        """These are on disk."""
        for number, snapshot in snapshots.items():
            self._saved[number] = snapshot.cursor
            self._lanes[number].saved(snapshot)

    def position(self, head: int) -> int:
        """The oldest offset that any of them still needs; if none does, the journal's head."""
        return min((lane.cursor.position for lane in self._lanes.values()), default=head)
