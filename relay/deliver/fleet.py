"""All lanes: started together, stopped together, their cursors saved together.

Cursors are saved every SAVE_S, and sooner when a lane's window is full, in one transaction for all lanes. If saving
fails, lanes go on until their windows are full and then wait: what could be sent twice stays bounded.
"""

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from relay.api.internal import LeftBehind
from relay.catalogue import Selection
from relay.config import Config
from relay.deliver.checkpoint import Saver
from relay.deliver.lane import Lane
from relay.deliver.lane_factory import Changes, LaneFactory, LanePlan, compare, doubts, plans
from relay.deliver.live_lane import LiveLane
from relay.deliver.opener import CLOSE_S
from relay.deliver.replays import Replays
from relay.journal import Journal
from relay.state import Counts, Cursor, Pause, State, read_lane_ledgers
from relay.stop import STOP, left
from relay.threads import ADMIN

SAVE_S: Final = 0.25
LOOK_S: Final = 0.5
"""How soon it is noticed that an admin wants events delivered once more."""
GONE: Final = "connector is gone but has events to come"
OFF_ADVICE: Final = "switch it on to have them delivered, or forget it (relay forget)"
GONE_ADVICE: Final = "configure it again under this name to have them delivered, or forget it (relay forget)"
log = structlog.stdlib.get_logger()


class LaneStart(NamedTuple):
    """Where a lane begins."""

    cursor: Cursor
    held: Pause | None
    """Its pause by an admin."""


class Fleet:
    """The lanes of a configuration."""

    def __init__(self, journal: Journal, state: State, folder: Path, worker: int = 0) -> None:
        self._journal, self._state = journal, state
        self._lanes: dict[str, LiveLane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._plans: dict[str, LanePlan] = {}
        """Of each lane what it was made by."""
        self._behind = defaultdict[str, LeftBehind](LeftBehind)
        """Of each connector's name what goes on in threads of those that have ended."""
        self._group: asyncio.TaskGroup | None = None
        self._replays = Replays(state)
        self._stopping = asyncio.Event()
        self.releases = False
        """Whether `run` lets go of the connectors: nothing is under way then, and it ends by itself."""
        self._save_now = asyncio.Event()
        self._lane_factory = LaneFactory(journal, state, folder, worker, self._save_now.set)
        self._saving = asyncio.Lock()
        self.also_needed: Callable[[], int] | None = None
        """From which offset on somebody beside the lanes still needs the journal."""
        self._saver = Saver(journal, state, self._replays)

    @property
    def lanes(self) -> Sequence[LiveLane]:
        """Those that run."""
        return tuple(self._lanes.values())

    def lane(self, connector: str) -> LiveLane:
        """The lane of a connector. Raises LookupError."""
        if connector not in self._lanes:
            known = ", ".join(sorted(self._lanes)) or "none"
            raise LookupError(f"no connector {connector} runs; there are: {known}")
        return self._lanes[connector]

    @property
    def unsaved(self) -> str | None:
        """Why nothing can be saved; None: the last try succeeded."""
        return self._state.refusing

    @property
    def replays(self) -> Mapping[int, Lane]:
        """The lanes of the replays under way, by their numbers."""
        return self._replays.lanes

    async def open(self, config: Config) -> None:
        """Make the connectors, and give each lane its cursor; `run` opens them. Raises ConfigError, sqlite3.Error."""
        self._plans = plans(config)
        made = self._lane_factory.make(config, self._plans)
        places = await self._places(self._plans)
        self._lanes = {
            name: self._lane_factory.lane(made[name], plan, *places[name], self._behind[name])
            for name, plan in self._plans.items()
        }
        await self._replays.tidy()
        await self._replays.look(self._lanes)
        await self._tell_abandoned(config.disabled)
        await self.save()

    async def _tell_abandoned(self, disabled: Sequence[str]) -> None:
        """Say which connectors are no longer configured but have events to come: the journal does not wait for them."""
        for connector, pending in (await self.gone()).items():
            if pending:
                is_off = f"connector.{connector}" in disabled
                what = "connector is switched off but has events to come" if is_off else GONE
                log.warning(what, connector=connector, pending=pending, advice=OFF_ADVICE if is_off else GONE_ADVICE)

    async def gone(self) -> dict[str, int]:
        """Connectors that have run, but do not now, and of each how many of the events that were pending when it ended
        the journal still has. Raises FileNotFoundError, sqlite3.Error."""
        found = await ADMIN.run(read_lane_ledgers, self._state.folder)
        running, oldest = {lane.name for lane in self.lanes}, self._journal.oldest
        return {one.connector: one.count_left(oldest) for one in found if one.connector not in running}

    async def change(self, config: Config, budget: float) -> Changes:
        """Go over to another configuration, while the fleet runs. Lanes of which nothing has changed go on as they are;
        the others finish what is under way, within `budget` seconds, and go on where they were with the new settings.

        Raises ConfigError, sqlite3.Error, OSError, and then all stays as it was: whatever may fail is tried before any
        lane ends. Only if the database fails right after that lanes may be missing: another change to the same
        configuration adds them."""
        wanted = plans(config)
        changes = compare(self._plans, wanted)
        made = self._lane_factory.make(config, (*changes.added, *changes.changed))
        places = await self._places({name: wanted[name] for name in changes.added})
        await self.save()
        places |= await self._end((*changes.changed, *changes.removed), budget)
        for name, one in made.items():
            lane = self._lane_factory.lane(one, wanted[name], *places[name], self._behind[name])
            self._lanes[name], self._plans[name] = lane, wanted[name]
            self._start(lane)
        await self._look_again()
        return replace(changes, doubts=await doubts([self._lanes[name] for name in made]))

    def try_change(self, config: Config) -> None:
        """Make what `change` would make, and leave all as it is. Raises ConfigError."""
        changes = compare(self._plans, plans(config))
        self._lane_factory.make(config, (*changes.added, *changes.changed))

    async def _places(self, wanted: Mapping[str, LanePlan]) -> dict[str, LaneStart]:
        """Where lanes begin that do not run. Raises sqlite3.Error."""
        pauses = await self._state.read_pauses()
        return {
            name: LaneStart(await self._lane_factory.cursor(name, plan.settings.from_), pauses.get(name))
            for name, plan in wanted.items()
        }

    async def _end(self, names: Sequence[str], budget: float) -> dict[str, LaneStart]:
        """Have these lanes end, and let go of them; return where they were. Raises sqlite3.Error."""
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
            self._saver.forget(lane.name)
            lane.close()
        await _release_all(ending, CLOSE_S)
        for lane in ending:
            self._behind[lane.name].take(lane.in_threads())
        return {
            lane.name: LaneStart(
                lane.cursor.copy() if is_saved else await self._lane_factory.cursor(lane.name, "now"),
                lane.destination.breaker.held,
            )
            for lane in ending
        }

    def _start(self, lane: LiveLane) -> None:
        if self._group is None:
            raise RuntimeError("the fleet does not run")
        self._tasks[lane.name] = self._group.create_task(lane.run(), name=f"lane {lane.name}")

    async def run(self) -> None:
        """Run all lanes until `stop`, then until their deliveries under way have ended; cancel it to end those too.

        At the end the cursors are saved and the connectors closed."""
        try:
            async with asyncio.TaskGroup() as group:
                saving = group.create_task(self._keep_saving(), name="save cursors")
                async with asyncio.TaskGroup() as lanes:
                    self._group = lanes
                    for lane in self.lanes:
                        self._start(lane)
                    looking = lanes.create_task(self._keep_looking(lanes), name="look for what admins ask")
                    await self._stopping.wait()
                    looking.cancel()
                saving.cancel()
        finally:
            await self._close()

    async def _close(self) -> None:
        try:
            await self._save_for_good()
        finally:
            for lane in (*self.lanes, *self.replays.values()):
                lane.close()
            self.releases = True
            await _release_all(self.lanes, left(STOP.closed, CLOSE_S))

    async def _save_for_good(self) -> bool:
        """Save the cursors; whether that worked."""
        try:
            await self.save()
        except (sqlite3.Error, OSError) as error:
            advice = "what was delivered since the last save is delivered again"
            log.error("saving the cursors failed at the stop", error=str(error), advice=advice)
            return False
        return True

    def stop(self) -> None:
        """Begin nothing new. What is under way may go on until `run` is cancelled."""
        self._stopping.set()
        for lane in self.lanes:
            lane.stop()
        self._replays.stop()

    async def _keep_saving(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_S):
                    await self._save_now.wait()
            self._save_now.clear()
            try:
                await self.save()
            except (sqlite3.Error, OSError) as error:
                log.error("saving the cursors failed, will be tried again", error=str(error))
                await asyncio.sleep(SAVE_S)

    async def _keep_looking(self, group: asyncio.TaskGroup) -> None:
        """See what admins ask for whenever another process has changed the database, or a pause is over."""
        self._replays.start(group)
        seen = -1
        while True:
            try:
                version = await self._state.read_version()
                if version != seen or self._is_pause_over():
                    await self._look(group)
                seen = version
            except sqlite3.Error as error:
                log.error("looking for what admins ask failed, will be tried again", error=str(error))
            await asyncio.sleep(LOOK_S)

    def _is_pause_over(self) -> bool:
        held = [lane.destination.breaker.held for lane in self.lanes]
        return any(pause.is_over(time.time()) for pause in held if pause is not None)

    async def heed_pauses(self) -> None:
        """Hold the lanes that admins have paused, and no others. Raises sqlite3.Error."""
        pauses = await self._state.read_pauses()
        for lane in self.lanes:
            lane.hold(pauses.get(lane.name))

    def try_now(self, connector: str) -> bool:
        """Have a connector that waits for its destination try again at once, in replays as well; False if it does not
        wait, or does not run yet."""
        lane = self._lanes.get(connector)
        tried = lane is not None and lane.try_now()
        for replay in self.replays.values():
            if tried and replay.name == connector:
                replay.try_destination()
        return tried

    async def _look_again(self) -> None:
        """Have all lanes see at once what admins have asked for."""
        if self._group is not None:
            await self._look(self._group)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        await self.heed_pauses()
        await self._state.read_accepted()
        for lane in self.lanes:
            lane.look_for_parked()
        await self._replays.look(self._lanes)
        self._replays.start(group)

    async def answers(self) -> None:
        """Return once what lanes wait for inside relay has moved on, reads of the journal and the database: never, if a
        disk hangs. Their destinations are not asked."""
        await self._journal.await_reads()
        await self._state.await_answer()

    async def rest(self, meanwhile: Callable[[str], Awaitable[Counts]]) -> None:
        """Put the lanes to rest one after the other, so that none has events in memory any more that it had before.

        `meanwhile` is called for each connector while its lane rests and all it knows is saved; it returns by how much
        the counts of the lane are others from now on, as it has saved them."""
        for replay in self.replays.values():
            async with replay.at_rest():
                log.debug("replay rests", connector=replay.name)
        for lane in self.lanes:
            async with lane.at_rest(), self._saving:
                await self._save()
                lane.correct(await meanwhile(lane.name))

    @property
    def single_worker_selections(self) -> list[Selection]:
        """What the connectors want of which one process has to deliver all."""
        return [lane.selection for lane in self.lanes if lane.traits.single_worker]

    async def is_idle(self) -> bool:
        """Whether there is nothing to deliver, once more or for the first time. Raises sqlite3.Error."""
        if self.replays or any(lane.cursor.position < self._journal.head for lane in self.lanes):
            return False
        return not any([await self._state.read_marked(lane.name, 1, 0) for lane in self.lanes])

    async def save(self) -> None:
        """Save the cursors that have moved, and tell the journal what is still needed."""
        async with self._saving:
            await self._save()

    async def _save(self) -> None:
        await self._saver.save(self.lanes, self.also_needed)


async def _release_all(lanes: Iterable[LiveLane], within: float) -> None:
    """Let go of their connectors and filters, all of them within so many seconds."""
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(lane.release(within), name=f"lane {lane.name}: let go")
