"""The partitions that this process runs: one of its own for life, or those of its share among all processes.

How it fails and recovers, where the processes share the partitions:

- About every LOOK_S the process tells the others that it runs, and learns which partitions it is to run. It opens those
  that it lacks. It gives a partition back once deliveries under way have ended, or after the drain budget.
- A partition that was lost to another process, or that another process has yet to give back, is tried again at the
  next look.
- A partition that cannot be opened is tried again after a pause that grows. Whatever the error is, the other partitions
  go on. Another process may take the partition meanwhile.
- Another process may add partitions. Then each of those here gets a smaller part of rates and other limits at once.
- A partition opens also while a reload takes its time. If the reload ends in between, the partition opens anew.
- While the database is away the process goes on with the partitions that it has, until each is lost.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from relay.api.internal import LeftBehind
from relay.config import Config, ConfigError, Mistake, find_unmade, make_mistakes
from relay.deliver import Changes, LiveLane, Taps, compare, make_plans
from relay.guests import format_trace, name_error
from relay.runtime.partitions.partition import Partition, Watch
from relay.runtime.partitions.unopened import Unopened
from relay.runtime.process import StartError, make_limits
from relay.runtime.worker import divide_by_partitions
from relay.status import Status, keep_configured, keep_counts, merge_parts
from relay.store import JournalLimits, Membership, Store, Unavailable, is_logged
from relay.threads import ADMIN

LOOK_S: Final = 0.5
AGAIN_S: Final = 30.0
HELD: Final = ("busy", "taken")
"""The reasons of errors while another process has a partition, or has yet to give it back."""
log = structlog.stdlib.get_logger()


class Partitions:
    """The partitions that this process runs."""

    def __init__(self, config: Config, store: Store, folder: Path, worker: int) -> None:
        """`folder`: the state folder. `worker`: the number of this process."""
        self._config, self._store, self._folder, self._worker = config, store, folder, worker
        self._membership: Membership | None = None
        self._parts = 0
        """The number of partitions that share the limits of the configuration in force."""
        self._running: dict[int, Partition] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._changing, self._opening = asyncio.Lock(), asyncio.Lock()
        """Held while the configuration changes, and while a partition opens."""
        self._unopened = Unopened()
        self._stopping = asyncio.Event()
        self._behind = defaultdict[int, dict[str, LeftBehind]](lambda: defaultdict(LeftBehind))
        """Work in threads of connectors that have ended, by partition and name."""
        self.taps = defaultdict[str, Taps](set)
        """The taps of each connector: also of lanes that begin later."""
        self._ended: Status | None = None
        """The counts of partitions that this process runs no more."""
        self._is_away_told = False
        self.unreachable_since: float | None = None
        """Since when the store has not said which partitions to run, in Unix seconds; None: it answers."""
        self.watch_first: Watch | None = None
        """Makes what watches partition 0 while it runs here."""
        self.limit_inbox: Callable[[JournalLimits], object] | None = None
        """Sets the limits of each partition for the inbox of this process."""
        self.moved = asyncio.Event()
        """Set when this process runs other partitions than before, or has another configuration."""

    def __iter__(self) -> Iterator[Partition]:
        return iter([*self._running.values()])

    async def open(self) -> None:
        """Join the processes of the store, and open the partition of this process's own, if it has one.

        Raises StartError, ConfigError.
        """
        self._check_made(self._config)
        try:
            self._membership = await ADMIN.run(self._store.join, self._worker)
            self._parts = self._store.shared_partitions
            if self._parts:
                return
            for number in await ADMIN.run(self._membership.find_wanted):
                self._running[number] = await self._open(number)
        except Unavailable as error:
            why = [str(error), await ADMIN.run(self._store.describe_full_disk, self._config.runtime.workers)]
            raise StartError("; ".join(filter(None, why))) from error
        for partition in self:
            try:
                await partition.prepare()
            except Unavailable as error:
                place = self._store.view(partition.number).place
                raise StartError(f"{place}: the database cannot be used: {error}") from error

    async def _open(self, number: int) -> Partition:
        """Open a partition. Raises Unavailable."""
        config = self._divide(self._config)
        opened = await ADMIN.run(self._store.open, number, make_limits(config), config.journal.memory)
        return Partition(config, self._store, self._folder, *opened, self._behind[number], self.taps)

    async def run(self) -> None:
        """Run partitions until `stop` and the end of what is under way."""
        async with asyncio.TaskGroup() as group:
            for partition in self:
                self._tasks[partition.number] = group.create_task(partition.run(), name=f"partition {partition.number}")
            if self._membership is not None and self._store.shared_partitions:
                group.create_task(self._follow_growth(), name="divide limits by more partitions")
                await self._follow(self._membership, group)

    async def _follow(self, membership: Membership, group: asyncio.TaskGroup) -> None:
        """Run the partitions that this process is to run, until `stop`."""
        while not self._stopping.is_set():
            wanted = await self._find_wanted(membership)
            if wanted is not None and not self._stopping.is_set():
                for number in wanted - self._tasks.keys():
                    self._tasks[number] = group.create_task(self._run_while_wanted(number), name=f"partition {number}")
                for number in () if self._opening.locked() else self._running.keys() - wanted:
                    self._running[number].give_back(self._config.runtime.drain)  # an opening that fails moves nothing
            await self._pause(LOOK_S)

    async def _follow_growth(self) -> None:
        """Divide the limits of the configuration anew whenever there are more partitions, until `stop`."""
        while not self._stopping.is_set():
            pause_s = LOOK_S
            if self._store.shared_partitions != self._parts:
                try:
                    async with self._changing:
                        await self._switch(self._config)
                    log.info("limits are divided by more partitions", partitions=self._parts)
                except (ConfigError, Unavailable) as error:
                    if not is_logged(error):
                        pause_s, told = AGAIN_S, {"in_s": AGAIN_S, "reason": str(error)}
                        log.error("limits cannot be divided by more partitions, will be tried again", **told)
            await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, or until `stop`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _find_wanted(self, membership: Membership) -> set[int] | None:
        """Find the partitions to run now; None while the database is away."""
        try:
            wanted = {*await ADMIN.run(membership.find_wanted, self._unopened.find_waiting())}
        except Unavailable as error:
            self.unreachable_since = self.unreachable_since or time.time()
            if not self._is_away_told and not error.is_logged:
                self._is_away_told = True
                log.error("partitions cannot be looked up, they go on until they are lost", reason=str(error))
            return None
        self.unreachable_since = None
        if self._is_away_told:
            self._is_away_told = False
            log.info("partitions can be looked up again")
        return wanted

    async def _run_while_wanted(self, number: int) -> None:
        """Open a partition, run it, and close it."""
        try:
            async with self._opening:
                partition = await self._try_to_open(number)
                if partition is None:
                    return
                self._running[number] = partition  # at once: a reload that begins now finds it
            await self._run_opened(partition)
        finally:
            del self._tasks[number]

    async def _run_opened(self, partition: Partition) -> None:
        """Run a partition, and close it."""
        number = partition.number
        self.moved.set()
        log.info("partition runs here", partition=number)
        if self._stopping.is_set():
            partition.stop()
        try:
            await partition.run(None if number else self.watch_first)
        finally:
            del self._running[number]
            counts = keep_counts(partition.status_reader.read_counts(self._config))
            self._ended = counts if self._ended is None else merge_parts([self._ended, counts])
            self.moved.set()
            await partition.close()
            log.info("partition does not run here any more", partition=number)

    async def _try_to_open(self, number: int) -> Partition | None:
        """Open a partition, and make its lanes; return None if that fails."""
        more = dict[str, str]()
        try:
            partition = await self._open_by_present_config(number)
        except Unavailable as error:
            if error.is_logged or error.reason in HELD:
                return None
            reason = str(error)
        except ConfigError as error:
            reason = str(error)
        except Exception as error:  # what is wrong with one partition must not end the others
            reason, more = name_error(error), {"exception": format_trace(error)}
        else:
            self._unopened.note_opened(number)
            return partition
        pause_s = self._unopened.note_failure(number, reason)
        told = {"partition": number, "reason": reason, "in_s": pause_s}
        log.error("partition cannot be opened, will be tried again", **told, **more)
        return None

    async def _open_by_present_config(self, number: int) -> Partition:
        """Open a partition by its part of the configuration in force, also if that changes meanwhile. Raises
        Unavailable, ConfigError."""
        while True:
            config, parts = self._config, self._store.shared_partitions
            partition = await self._open(number)
            try:
                await partition.prepare()
                if number:
                    await partition.follow_pauses()
                if config is self._config and parts == self._store.shared_partitions:
                    return partition
            except BaseException:
                await partition.close()
                raise
            await partition.close()

    async def read_statuses(self, config: Config) -> list[Status]:
        """Return the status of each partition, and the counts of those that this process runs no more."""
        found = [await partition.status_reader.read_status(config) for partition in self]
        return found if self._ended is None else [*found, keep_configured(self._ended, config)]

    @property
    def are_shared(self) -> bool:
        """Whether processes share the partitions."""
        return bool(self._store.shared_partitions)

    @property
    def unopened(self) -> Mapping[int, str]:
        """Why partitions could not be opened here, by number."""
        return self._unopened.reasons

    @property
    def numbers(self) -> Collection[int]:
        """The numbers of the partitions."""
        return self._running.keys()

    @property
    def lanes(self) -> list[LiveLane]:
        """The lanes that run in all partitions."""
        return [lane for partition in self for lane in partition.fleet.lanes]

    def find_lanes(self, connector: str) -> list[LiveLane]:
        """Return the lanes of a connector. Raises LookupError if there is none."""
        if not (found := [lane for lane in self.lanes if lane.name == connector]):
            known = ", ".join(sorted({lane.name for lane in self.lanes})) or "none"
            raise LookupError(f"no connector {connector} runs; there are: {known}")
        return found

    def try_change(self, new: Config) -> None:
        """Make what `change` would make, and change nothing. Raises ConfigError."""
        self._check_made(new)
        for partition in self:
            partition.fleet.try_change(self._divide(new))

    async def change(self, new: Config) -> Changes:
        """Switch all partitions to another configuration. Raises ConfigError, and changes nothing then, and Unavailable
        as `Fleet.change`."""
        async with self._changing:
            self._check_made(new)
            return await self._switch(new)

    async def _switch(self, new: Config) -> Changes:
        """Switch all partitions to their parts of a configuration, as `change`."""
        parts = self._store.shared_partitions
        mine, changes = self._divide(new), compare(make_plans(self._config), make_plans(new))
        for partition in [*self][1:]:  # the first one tries by itself before it changes anything
            partition.fleet.try_change(mine)
        done = set[Partition]()
        while left := [one for one in self if one not in done]:  # others may have opened meanwhile
            for partition in left:
                done.add(partition)
                try:
                    found = await partition.change(mine)
                except Unavailable:
                    if self._running.get(partition.number) is partition and not partition.is_lost:
                        raise
                else:
                    changes = replace(changes, unready={**changes.unready, **found.unready})
        self._config, self._parts = new, parts
        if self.limit_inbox is not None:
            self.limit_inbox(make_limits(mine))
        return changes

    def _check_made(self, config: Config) -> None:
        """Check that all of a configuration can be made, also while no partition makes it. Raises ConfigError."""
        least, wanted = min(self._store.shared_partitions, self._config.journal.partitions), config.journal.partitions
        if wanted < least and config.journal.backend == self._config.journal.backend:
            reason = (
                f"is {wanted}, and {least} partitions exist: set partitions = {least}, for the number never shrinks"
            )
            raise ConfigError([Mistake(key="journal.partitions", reason=reason)])
        if self._store.shared_partitions and (failures := find_unmade(config, self._folder).failures):
            raise ConfigError(make_mistakes(failures))

    def _divide(self, config: Config) -> Config:
        return divide_by_partitions(config, self._store.shared_partitions)

    async def is_idle(self) -> bool:
        """Return whether nothing is left to deliver or to erase. Raises Unavailable."""
        return all([await partition.is_idle() for partition in self])

    def stop(self) -> None:
        """Begin nothing new. Deliveries under way go on until `cut`."""
        self._stopping.set()
        for partition in self:
            partition.stop()

    def cut(self, why: str) -> None:
        """Cut deliveries under way short."""
        if all(partition.fleet.releases for partition in self):
            return
        log.warning("deliveries under way are cut short and made again after the next start", reason=why)
        for partition in self:
            partition.cut()

    async def report(self, status: Status) -> None:
        """Leave the status of this process for the others, unless the database is away."""
        if self._membership is not None:
            with suppress(Unavailable):  # the look at the partitions says it
                report = msgspec.json.encode(status)
                await ADMIN.run(self._membership.report, report, self._config.digests)

    async def close(self) -> None:
        """Close what is still open, and leave the other processes."""
        for partition in self:
            await partition.close()
        if self._membership is not None:
            with suppress(Unavailable):
                await ADMIN.run(self._membership.leave)
