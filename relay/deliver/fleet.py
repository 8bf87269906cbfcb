"""The fleet: all lanes, started together, stopped together, their cursors saved together.

A checkpoint saves the cursors every `State.save_s` seconds, and sooner when the window of a lane is full, in one
transaction for all lanes. If saving fails, lanes go on until their windows are full, and then wait: what could be sent
twice stays bounded.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from msgspec.structs import replace

from relay.api.internal import LeftBehind
from relay.config import Config
from relay.deliver.checkpoint import Checkpoint
from relay.deliver.lane import Lane, Taps
from relay.deliver.lane_factory import Changes, LaneFactory, LanePlan, compare, find_unready, make_plans
from relay.deliver.live_lane import LiveLane
from relay.deliver.opener import CLOSE_S
from relay.deliver.replays import Replays
from relay.stop import STOP, count_seconds_left
from relay.store import Counts, Cursor, LaneLedger, Log, Pause, State, Unavailable

LOOK_S: Final = 0.5
"""How often relay looks for requests of admins, in seconds."""
GONE: Final = "connector is gone but has events to come"
OFF_ADVICE: Final = "switch it on to have them delivered, or forget it (relay forget)"
GONE_ADVICE: Final = "configure it again under this name to have them delivered, or forget it (relay forget)"
log = structlog.stdlib.get_logger()


class LaneStart(NamedTuple):
    """Where a lane begins."""

    cursor: Cursor
    held: Pause | None
    """The pause by an admin."""


class Fleet:
    """The lanes of a configuration."""

    def __init__(
        self,
        journal: Log,
        state: State,
        folder: Path,
        worker: int = 0,
        behind: MutableMapping[str, LeftBehind] | None = None,
        taps: MutableMapping[str, Taps] | None = None,
    ) -> None:
        """`behind`: work in threads of connectors that have ended, by name. The fleet adds that of its own.

        `taps`: the taps of each connector, for the lanes that run and those to come.
        """
        self._journal, self._state = journal, state
        self._lanes: dict[str, LiveLane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._plans: dict[str, LanePlan] = {}
        """The plan by which each lane was made."""
        self._behind = defaultdict[str, LeftBehind](LeftBehind) if behind is None else behind
        self._group: asyncio.TaskGroup | None = None
        self._replays = Replays(state)
        self._stopping = asyncio.Event()
        self._is_ending = False
        self.releases = False
        """Whether `run` closes the connectors: nothing is under way then, and `run` ends by itself."""
        self._save_now = asyncio.Event()
        self._may_begin = asyncio.Event()
        self._may_begin.set()
        taps = defaultdict[str, Taps](set) if taps is None else taps
        self._lane_factory = LaneFactory(journal, state, folder, worker, self._save_now.set, self._may_begin, taps)
        self._saving = asyncio.Lock()
        self.also_needed: Callable[[], int] | None = None
        """Returns the oldest offset that someone beside the lanes needs."""
        self._checkpoint = Checkpoint(journal, state, self._replays)

    @property
    def lanes(self) -> Sequence[LiveLane]:
        """The lanes that run."""
        return tuple(self._lanes.values())

    @property
    def unsaved(self) -> str | None:
        """Why no cursor can be saved; None if the last save succeeded."""
        return self._state.refusing

    @property
    def replays(self) -> Mapping[int, Lane]:
        """The lanes of the replays under way, by number."""
        return self._replays.lanes

    async def open(self, config: Config) -> None:
        """Make the connectors, and give each lane its cursor; `run` opens them. Raises ConfigError, Unavailable."""
        self._plans = make_plans(config)
        made = self._lane_factory.make_plugins(config, self._plans)
        places = await self._find_starts(self._plans)
        self._lanes = {
            name: self._lane_factory.make_lane(made[name], plan, *places[name], self._behind[name])
            for name, plan in self._plans.items()
        }
        await self._replays.remove_old_cuts()
        await self._replays.update(self._lanes)
        for ended in await self.find_abandoned():
            if pending := ended.count_left(self._journal.oldest):  # the journal does not wait for them
                is_off = f"connector.{ended.connector}" in config.disabled
                what = "connector is switched off but has events to come" if is_off else GONE
                advice = OFF_ADVICE if is_off else GONE_ADVICE
                log.warning(what, connector=ended.connector, pending=pending, advice=advice)
        await self.save()

    async def find_abandoned(self) -> list[LaneLedger]:
        """Return the ledgers of the connectors that ran and do not run now. Raises Unavailable."""
        found = await self._state.read_lane_ledgers()
        running = {lane.name for lane in self.lanes}
        return [one for one in found if one.connector not in running]

    async def change(self, config: Config, budget: float) -> Changes:
        """Go over to another configuration while the fleet runs. Lanes without a change go on. Other lanes finish what
        is under way, within `budget` seconds, and go on where they were with the new settings.

        Raises ConfigError, Unavailable, and changes nothing then: relay tries whatever may fail before a
        lane ends. Lanes may be missing only if the state fails right after that. Another change to the same
        configuration adds them."""
        wanted = make_plans(config)
        changes = compare(self._plans, wanted)
        made = self._lane_factory.make_plugins(config, (*changes.added, *changes.changed))
        places = await self._find_starts({name: wanted[name] for name in changes.added})
        await self.save()
        places |= await self._end((*changes.changed, *changes.removed), budget)
        for name, one in made.items():
            lane = self._lane_factory.make_lane(one, wanted[name], *places[name], self._behind[name])
            self._lanes[name], self._plans[name] = lane, wanted[name]
            if name in changes.changed:
                lane.use_up_rate()
            self._start(lane)
        self._save_now.set()  # from now on other nodes know when the new lanes began
        if self._group is not None:
            await self._heed_admins(self._group)
        return replace(changes, unready=await find_unready([self._lanes[name] for name in made]))

    def try_change(self, config: Config) -> None:
        """Make what `change` would make, and change nothing. Raises ConfigError."""
        changes = compare(self._plans, make_plans(config))
        self._lane_factory.make_plugins(config, (*changes.added, *changes.changed))

    async def _find_starts(self, wanted: Mapping[str, LanePlan]) -> dict[str, LaneStart]:
        """Return where lanes begin that do not run. Raises Unavailable."""
        pauses = await self._state.read_pauses()
        return {
            name: LaneStart(await self._lane_factory.find_cursor(name, plan.settings.from_), pauses.get(name))
            for name, plan in wanted.items()
        }

    async def _end(self, names: Sequence[str], budget: float) -> dict[str, LaneStart]:
        """End these lanes and close their connectors; return where they were. Raises Unavailable."""
        if not names:
            return {}
        ending = [self._lanes[name] for name in names]
        for lane in ending:
            lane.stop()
        running = [self._tasks.pop(name) for name in names]
        running += self._replays.end(names)
        _, late = await asyncio.wait(running, timeout=budget)
        for task in late:
            task.cancel()
        await asyncio.wait(running)
        is_saved = await self._save_for_good()
        self._replays.forget(names)
        for lane in ending:
            del self._lanes[lane.name], self._plans[lane.name]
            self._checkpoint.forget(lane.name)
            lane.close()
        await _release_all(ending, CLOSE_S)
        for lane in ending:
            self._behind[lane.name].take(lane.find_thread_work())
        return {
            lane.name: LaneStart(
                lane.cursor.copy() if is_saved else await self._lane_factory.find_cursor(lane.name, "now"),
                lane.destination.breaker.held,
            )
            for lane in ending
        }

    def _start(self, lane: LiveLane) -> None:
        if self._group is None:
            raise RuntimeError("the fleet does not run")
        if self._is_ending:
            return
        self._tasks[lane.name] = self._group.create_task(lane.run(), name=f"lane {lane.name}")

    async def run(self) -> None:
        """Run all lanes until `stop`, then until their deliveries under way have ended; cancel it to end those too.

        At the end, save the cursors and close the connectors."""
        try:
            async with asyncio.TaskGroup() as group:
                saving = group.create_task(self._keep_saving(), name="save cursors")
                async with asyncio.TaskGroup() as lanes:
                    self._group = lanes
                    for lane in self.lanes:
                        self._start(lane)
                    looking = lanes.create_task(self._keep_heeding_admins(lanes), name="look for what admins ask")
                    try:
                        await self._stopping.wait()
                    finally:
                        self._is_ending = True
                    looking.cancel()
                saving.cancel()
        finally:
            try:
                await self._save_for_good()
            finally:
                for ended in (*self.lanes, *self.replays.values()):
                    ended.close()
                self.releases = True
                await _release_all(self.lanes, count_seconds_left(STOP.closed, CLOSE_S))
                for ended in self.lanes:
                    self._behind[ended.name].take(ended.find_thread_work())

    async def _save_for_good(self) -> bool:
        """Save the cursors; return whether that succeeded."""
        try:
            await self.save()
        except Unavailable as error:
            if not error.is_logged:
                advice = "what was delivered since the last save is delivered again"
                log.error("saving the cursors failed at the stop", error=str(error), advice=advice)
            return False
        return True

    def hold_new_lanes(self) -> None:
        """Hold lanes that have not begun to deliver until `let_new_lanes_go`. Their connectors are opened meanwhile."""
        self._may_begin.clear()

    def let_new_lanes_go(self) -> None:
        """Let lanes begin to deliver."""
        self._may_begin.set()

    def stop(self) -> None:
        """Begin nothing new. Deliveries under way go on until `run` is cancelled."""
        self._stopping.set()
        self.stop_lanes()

    def stop_lanes(self) -> None:
        """Begin no delivery any more, as `stop`, while `run` goes on."""
        for lane in self.lanes:
            lane.stop()
        self._replays.stop()

    async def _keep_saving(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._state.save_s):
                    await self._save_now.wait()
            self._save_now.clear()
            try:
                await self.save()
            except Unavailable as error:
                if error.reason == "taken":
                    return
                if not error.is_logged:
                    log.error("saving the cursors failed, will be tried again", error=str(error))
                await asyncio.sleep(self._state.save_s)

    async def _keep_heeding_admins(self, group: asyncio.TaskGroup) -> None:
        """Act on requests of admins whenever another process has written, or a pause is over, until another process
        works with the partition."""
        self._replays.start(group)
        seen = -1
        while True:
            try:
                changes = await self._state.changes()
                held = [pause for lane in self.lanes if (pause := lane.destination.breaker.held) is not None]
                if changes != seen or any(pause.is_over(time.time()) for pause in held):
                    await self._heed_admins(group)
                seen = changes
            except Unavailable as error:
                if error.reason == "taken":
                    return
                if not error.is_logged:
                    log.error("looking for what admins ask failed, will be tried again", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def heed_pauses(self) -> None:
        """Hold the lanes that admins have paused, and no others. Raises Unavailable."""
        pauses = await self._state.read_pauses()
        for lane in self.lanes:
            lane.hold(pauses.get(lane.name))

    def try_now(self, connector: str) -> bool:
        """Try at once what waits for a destination, in replays as well; return False if nothing waits, or the connector
        does not run yet."""
        lane = self._lanes.get(connector)
        tried = lane is not None and lane.try_now()
        for replay in self.replays.values():
            if tried and replay.name == connector:
                replay.try_destination()
        return tried

    async def _heed_admins(self, group: asyncio.TaskGroup) -> None:
        await self.heed_pauses()
        await self._state.read_accepted()
        for lane in self.lanes:
            lane.wake_parked_replay()
        await self._replays.update(self._lanes)
        self._replays.start(group)

    async def wait_for_answers(self) -> None:
        """Return once reads of the journal and the work of the state, for which lanes wait, have moved on.

        Never return if a disk hangs. Destinations are not asked."""
        await self._journal.await_reads()
        await self._state.await_answer()

    async def rest_each_lane(self, meanwhile: Callable[[str], Awaitable[Counts]]) -> None:
        """Put the lanes to rest one after the other, so that no lane keeps events in memory that it had before.

        Call `meanwhile` for each connector while its lane rests and its cursor is saved. `meanwhile` saves how the
        counts of the lane change, and returns the change."""
        for replay in self.replays.values():
            async with replay.at_rest():
                log.debug("replay rests", connector=replay.name)
        for lane in self.lanes:
            async with lane.at_rest(), self._saving:
                await self._save()
                lane.correct_counts(await meanwhile(lane.name))

    async def is_idle(self) -> bool:
        """Return whether nothing is left to deliver, for the first time or again. Raises Unavailable."""
        if self.replays or any(lane.cursor.position < self._journal.head for lane in self.lanes):
            return False
        return not any([await self._state.read_marked(lane.name, 1, 0) for lane in self.lanes])

    async def save(self) -> None:
        """Save the cursors that have moved, and tell the journal what is still needed."""
        async with self._saving:
            await self._save()

    async def _save(self) -> None:
        await self._checkpoint.save(self.lanes, self.also_needed)


async def _release_all(lanes: Iterable[LiveLane], within: float) -> None:
    """Close connectors and filters, within so many seconds for all."""
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(lane.release(within), name=f"lane {lane.name}: let go")
