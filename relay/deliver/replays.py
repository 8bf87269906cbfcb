"""Replays under way: temporary lanes beside the lanes of connectors, over old ranges of the journal.

How it fails and recovers: a checkpoint saves the cursor of a replay in the row of the request. So a replay goes on
after a restart where it was. The cursors of the connectors do not change. The journal keeps the events of a replay only
while space allows. Events that have left the journal count as expired in the ledger of the replay, unreadable events as
damaged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from relay.deliver.lane import Lane, Snapshot
from relay.deliver.live_lane import LiveLane
from relay.store import Cursor, State, Unavailable

REPORTED: Final = ("delivered", "parked", "expired", "damaged")
"""The outcomes that the log reports at the end of a replay."""
log = structlog.stdlib.get_logger()


class Replays:
    """The replays that admins have asked for, of the connectors that run."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lanes: dict[int, Lane] = {}
        self._started: dict[int, asyncio.Task[None]] = {}
        self._over: set[int] = set()
        """Numbers of replays whose lane has ended."""
        self._saved: dict[int, Cursor] = {}

    async def update(self, live: Mapping[str, LiveLane]) -> None:
        """Make lanes for new replays, and stop replays that were cancelled. Raises Unavailable."""
        asked = await self._state.read_replays()
        lanes = {name: lane for name, lane in live.items() if not lane.is_stopping}
        wanted = {replay.number: replay for replay in asked if replay.connector in lanes}
        for number in self._lanes.keys() - wanted:
            self._lanes[number].stop()
        for number in sorted(wanted.keys() - self._lanes):
            self._lanes[number] = lanes[wanted[number].connector].make_replay_lane(wanted[number])

    async def remove_old_cuts(self) -> None:
        """Remove the cuts of replays that are over. Raises Unavailable."""
        numbers = {replay.number for replay in await self._state.read_replays()}
        with suppress(Unavailable):  # what stays there does no harm
            await self._state.remove_cuts_of_replays(numbers)

    @property
    def lanes(self) -> Mapping[int, Lane]:
        """The lanes of the replays, by number."""
        return {**self._lanes}

    def start(self, group: asyncio.TaskGroup) -> None:
        """Run the replays that do not run yet."""
        for number in self._lanes.keys() - self._started.keys():
            self._started[number] = group.create_task(self._run(number, self._lanes[number]), name=f"replay {number}")

    async def _run(self, number: int, lane: Lane) -> None:
        replay_log = log.bind(replay=number, connector=lane.name)
        replay_log.info("replay begins", offset=lane.cursor.position)
        await lane.run()
        self._over.add(number)
        counts = lane.cursor.counts
        done = {name: getattr(counts, name) for name in REPORTED}
        replay_log.info("replay is done" if lane.has_ended else "replay stopped", offset=lane.cursor.position, **done)

    def end(self, connectors: Sequence[str]) -> list[asyncio.Task[None]]:
        """Stop the replays to these connectors where they are; return their tasks."""
        ending = self._find_numbers(connectors)
        for number in ending:
            self._lanes[number].stop()
        return [self._started[number] for number in ending if number in self._started]

    def forget(self, connectors: Sequence[str]) -> None:
        """Forget the replays to these connectors, which have ended and are saved. They are not done: the next `update`
        begins them again."""
        for number in self._find_numbers(connectors):
            self._lanes.pop(number).close()
            self._started.pop(number, None)
            self._over.discard(number)

    def _find_numbers(self, connectors: Sequence[str]) -> list[int]:
        return [number for number, lane in self._lanes.items() if lane.name in connectors]

    def stop(self) -> None:
        """Begin nothing new."""
        for lane in self._lanes.values():
            lane.stop()

    def snapshots(self) -> Mapping[int, Snapshot]:
        """Return what to save, by number. Hand it to `mark_saved` after the save. Forget replays that are over and
        saved."""
        found = {number: lane.snapshot() for number, lane in self._lanes.items()}
        changed = {number: one for number, one in found.items() if one.cursor != self._saved.get(number)}
        for number in self._over - changed.keys():
            self._over.remove(number)
            self._lanes.pop(number).close()
            del self._started[number]  # if it is wanted still, the next look begins it again
        return changed

    def mark_saved(self, snapshots: Mapping[int, Snapshot]) -> None:
        """Note that these snapshots are on disk."""
        for number, snapshot in snapshots.items():
            self._saved[number] = snapshot.cursor
            self._lanes[number].mark_saved(snapshot)

    def find_floor(self, head: int) -> int:
        """Return the oldest offset that a replay still needs; without a replay, `head`."""
        return min((lane.cursor.position for lane in self._lanes.values()), default=head)
