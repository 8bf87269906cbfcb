"""One partition that this process runs: its log and state, its lanes, its erasures, and what tidies it.

How it fails and recovers: after `stop` nothing new begins, and deliveries under way may end. `cut` ends them at once;
whoever runs the partition next makes them again. Another process may take the partition over at any moment. Where the
processes share the partitions, this process then cuts its deliveries at once. Where a process has its own partition,
deliveries under way end, and nothing more begins until a restart.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, Final

import structlog

from relay.api.internal import LeftBehind
from relay.config import Config
from relay.deliver import Changes, Fleet, Taps
from relay.erasure import Eraser
from relay.runtime.background import Chores
from relay.runtime.partitions.parked_removal import keep_removing_parked
from relay.runtime.partitions.status import PartitionStatusReader
from relay.runtime.process import make_limits, make_parked_limits
from relay.runtime.worker import make_connector_folder
from relay.stop import STOP, count_seconds_left
from relay.store import Log, State, Store, Unavailable
from relay.threads import ADMIN

Watch = Callable[[Log, State], Coroutine[Any, Any, None]]
ROOM_S: Final = 5.0
"""Seconds between two checks for room for the next commits."""
FILLERS_S: Final = 60.0
"""Seconds for which relay remembers what fills a full disk."""
CLOSE_S: Final = 15.0
log = structlog.stdlib.get_logger()


class Partition:
    """One partition at work."""

    def __init__(
        self,
        config: Config,
        store: Store,
        folder: Path,
        journal: Log,
        state: State,
        behind: dict[str, LeftBehind],
        taps: dict[str, Taps],
    ) -> None:
        """`config`: the partition's part of the configuration. `folder`: the state folder. `behind`: work in threads of
        connectors that have ended, by name. `taps`: those of a connector's lanes in all partitions, by name."""
        self.number, self.journal, self.state = state.worker, journal, state
        self._config, self._store = config, store
        start = folder if store.shared_partitions else make_connector_folder(folder, self.number)
        self.fleet = Fleet(journal, state, start, self.number, behind, taps)
        self._eraser = self._make_eraser(config)
        self.status_reader = PartitionStatusReader(self.fleet, journal, self.number)
        self._chores = Chores()
        self._lanes: asyncio.Task[None] | None = None
        self.is_lost = False
        """Whether another process may run the partition."""
        self._is_given_back = self._is_closed = False
        self._filled = "", -inf
        state.parked_limits = make_parked_limits(config)
        journal.set_fillers(self._describe_fillers)

    def _make_eraser(self, config: Config) -> Eraser:
        settings = config.erasure
        if self.number and not self._store.shared_partitions:  # the first worker has the events that ask for erasures
            settings = settings.model_copy(update={"on": ()})
        return Eraser(self.fleet, self.journal, self.state, settings, self.number)

    async def prepare(self) -> None:
        """Make the lanes, each where it was. Raises ConfigError, Unavailable."""
        await self.fleet.open(self._config)
        await self._eraser.open()
        await self.state.read_accepted()  # connectors that a reload adds begin at the head, if nothing is in doubt
        self._note_begun()
        if self._store.shared_partitions:
            for lane in self.fleet.lanes:
                lane.use_up_rate()
        with suppress(OSError):  # the first commit says it
            await self.journal.check_room()

    def _note_begun(self) -> None:
        if self._store.shared_partitions:
            self.status_reader.note_begun()

    async def follow_pauses(self) -> None:
        """Pause what the first partition pauses."""
        try:
            await self.state.follow_pauses()
        except Unavailable as error:
            if not error.is_logged:
                log.error("what the first worker pauses cannot be read", error=str(error))
        await self.fleet.heed_pauses()

    async def run(self, watch: Watch | None = None) -> None:
        """Run the lanes, and all beside them, until `stop` and the end of what is under way, or until `cut`.

        `watch`: makes what watches the partition meanwhile.
        """
        async with asyncio.TaskGroup() as group:
            self._chores.set_group(group)
            self._lanes = group.create_task(self.fleet.run(), name="fleet")
            self._chores.start("tidy parking", keep_removing_parked(self.state))
            self._chores.start("look for room", self._keep_checking_room())
            self._chores.start("erasures", self._eraser.run())
            self._chores.start("heed a takeover", self._heed_takeover())
            if watch is not None:
                self._chores.start("watch for sources", watch(self.journal, self.state))
            await asyncio.wait([self._lanes])
            self._chores.end()

    async def _heed_takeover(self) -> None:
        reason = await self.state.await_taken()
        if self._store.shared_partitions:
            self.is_lost = True
            self._cut_short(reason)
        else:
            log.error("another relay has taken over", reason=reason)
            self.fleet.stop_lanes()

    async def _keep_checking_room(self) -> None:
        """Notice a full disk before a sender does, for ever."""
        while True:
            with suppress(OSError):  # the next commit says it
                await self.journal.check_room()
            await asyncio.sleep(ROOM_S)

    def _describe_fillers(self) -> str:
        """Describe what fills the disk. Blocking."""
        now = time.monotonic()
        if now - self._filled[1] > FILLERS_S:
            files = [lane.traits.local_path for lane in self.fleet.lanes if lane.traits.local_path is not None]
            self._filled = self._store.describe_usage(self._config.runtime.workers, files), now
        return self._filled[0]

    async def is_idle(self) -> bool:
        """Return whether nothing is left to deliver or to erase. Raises Unavailable."""
        return await self.fleet.is_idle() and await self._eraser.is_idle()

    async def change(self, config: Config) -> Changes:
        """Switch to the partition's part of another configuration. Raises ConfigError, Unavailable.

        Erasures rest while lanes change, because they must reach all lanes.
        """
        await self._chores.stop("erasures")
        try:
            changes = await self.fleet.change(config, config.runtime.drain)
        except Exception:
            self._chores.start("erasures", self._eraser.run())
            raise
        self._config = config
        self._note_begun()
        # Replace the eraser, which knows connectors and settings. The new eraser continues where the old one was.
        self._eraser = self._make_eraser(config)
        await self._eraser.open()
        self._chores.start("erasures", self._eraser.run())
        self.journal.set_limits(make_limits(config), config.journal.memory)
        self.state.parked_limits = make_parked_limits(config)
        for lane in self.fleet.lanes:
            lane.connector.min_free = config.journal.min_free
        return changes

    def stop(self) -> None:
        """Begin nothing new."""
        self.fleet.stop()

    def give_back(self, budget: float) -> None:
        """Begin nothing new. Deliveries under way are cut short after `budget` seconds."""
        if not self._is_given_back:
            self._is_given_back = True
            self.stop()
            asyncio.get_running_loop().call_later(budget, self._cut_short, "the drain budget is used up")

    def _cut_short(self, why: str) -> None:
        if not self.fleet.releases:
            log.warning(
                "partition ends here, its deliveries under way are cut short", partition=self.number, reason=why
            )
            self.cut()

    def cut(self) -> None:
        """Cut deliveries under way short."""
        if self._lanes is not None and not self.fleet.releases:
            self._lanes.cancel()
            self._chores.end()

    async def close(self) -> None:
        """Close log and state, unless their disk hangs: then the process ends without a close.

        Where the processes share the partitions, this process may go on, and nobody else can run the partition before
        its state is closed.
        """
        if self._is_closed:
            return
        self._is_closed = True
        seconds = count_seconds_left(STOP.kept, CLOSE_S)
        try:
            async with asyncio.timeout(seconds):
                if not self.is_lost:
                    with suppress(Unavailable):  # a relay that was taken over learns of it here
                        await self.state.save({}, self.journal.head)
                await self.journal.close()
                if not self.is_lost:
                    with suppress(Unavailable):  # then the next start says that relay.db is older than the journal
                        await self.state.save_end(self.journal.head)
                await ADMIN.run(self.state.close)
        except TimeoutError:
            is_shared = bool(self._store.shared_partitions)
            what = "the database does not answer" if is_shared else "the disk of the state folder hangs"
            reason = f"{what}; nothing that was acknowledged is lost"
            log.error("journal and database are not closed", in_s=round(seconds, 1), reason=reason)
            if is_shared:
                await ADMIN.run(self.state.close)
