"""Erases users from the journal, from the state, and at the destinations.

Failure and recovery: an erasure is saved with its progress, and every step may be repeated. Erasures that are due when
a worker begins come before its lanes. If they fail, the lanes begin all the same: a damaged journal must not stop all
deliveries. Until the erasures succeed, lanes find the users' events erased.

1. All ids of the users are read and saved, because later their events are missing. With several workers every worker
   learns the users and their ids before any worker removes anything.
2. The journal erases the users' events, stretch by stretch. What a stretch holds of them is counted before.
3. Each lane rests, and drops what it has in memory; the users' parked events are removed while it rests.
4. What was deleted is overwritten, so that no file holds anything of them.
5. The first worker calls each connector's erase() until it succeeds, once no other worker can still write the users'
   events there. A failed erasure waits for its connector, even an unconfigured connector, until an admin forgets it.
6. The ids are deleted. The receipt stays.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

import structlog

from relay.api import User
from relay.config import ErasureSettings
from relay.deliver import Fleet, LiveLane
from relay.erasure.destinations import ConnectorErasure
from relay.erasure.requests import ErasureWatch
from relay.store import DAY_S, Erasure, Log, State, Unavailable, Wanted, is_logged, merge_users

LOOK_S: Final = 0.5
AGAIN_S: Final = 30.0
USERS_A_PASS: Final = 500
"""Users per pass over the journal. The others follow in the next pass."""
REMOVED_ADVICE: Final = "configure it again under this name to have them erased there, or forget it (relay forget)"
PASS_SPACING: Final = 0.1
"""The least time between two passes, as a share of `after`."""
Offsets = dict[int, frozenset[int]]
log = structlog.stdlib.get_logger()


class Eraser:
    """Does the requested erasures."""

    def __init__(self, fleet: Fleet, journal: Log, state: State, settings: ErasureSettings, worker: int = 0) -> None:
        self._fleet, self._journal, self._erasures, self._settings = fleet, journal, state.erasures, settings
        self._worker = worker
        self._watch = ErasureWatch(journal, state, settings)
        self._next = 0.0
        self._at_connectors = False
        """Whether some erasures have reached the connectors."""

    @property
    def watch_position(self) -> int:
        """The offset below which all events have been searched for erasure requests."""
        return self._watch.position

    async def is_idle(self) -> bool:
        """Return whether no erasure is under way. Raises Unavailable."""
        return not await self._erasures.read_open()

    @property
    def _lanes(self) -> Sequence[LiveLane]:
        """The lanes whose connectors have to erase users."""
        return self._fleet.lanes

    async def open(self) -> None:
        """Prepare, before events come in. Raises Unavailable."""
        if self._worker:
            await self._erasures.forget_failed()
        else:
            # Log the failed erasures at connectors that are no longer configured
            running = {lane.name for lane in self._lanes}
            for one in await self._erasures.find_failing_at_connectors():
                if one.connector not in running:
                    news = {"connector": one.connector, "erasures": one.erasures, "reason": one.reason}
                    log.warning("connector is gone but has users to erase", **news, advice=REMOVED_ADVICE)
        if self._watch.is_needed:
            await self._watch.open()
        self._fleet.also_needed = (lambda: self.watch_position) if self._watch.is_needed else None
        if self._find_due(await self._erasures.read_open()):
            self._fleet.hold_new_lanes()

    async def run(self) -> None:
        """Notice requests and do them, for ever."""
        told = self._lanes
        async with asyncio.TaskGroup() as group:
            if self._watch.is_needed:
                group.create_task(self._watch.run(), name="look for erasures")
            for lane in told:
                erasing = ConnectorErasure(lane, self._erasures, lambda: self._at_connectors, self._worker)
                group.create_task(erasing.run(), name=f"erasures of {lane.name}")
            names = [lane.name for lane in told]
            while True:
                pause_s = LOOK_S
                try:
                    await self.erase_due(names)
                except Exception as error:
                    pause_s = AGAIN_S
                    if not is_logged(error):
                        log.error("erasing failed, will be tried again", in_s=AGAIN_S, error=_describe_error(error))
                await asyncio.sleep(pause_s)

    def _find_due(self, under_way: Sequence[Erasure]) -> Sequence[Erasure]:
        """Return the erasures of users whom the journal may hold and who have waited long enough, the first one
        first."""
        last = self._journal.clock.now() - self._settings.after
        return [one for one in reversed(under_way) if not one.compacted and one.asked <= last]

    async def erase_due(self, told: Sequence[str]) -> None:
        """Do the erasures that are due, then let new lanes go. `told`: the names of the running connectors."""
        under_way = await self._erasures.read_open()
        self._at_connectors = any(one.compacted for one in under_way)
        now = self._journal.clock.now()
        if not self._journal.clock.ahead and any(one.asked > now + DAY_S for one in under_way):
            await self._erasures.correct_asked(now, now + DAY_S)
            under_way = []  # they were asked for by a clock that was ahead: they wait from now on
        due = self._find_due(under_way)
        if due and time.monotonic() >= self._next:
            known = {one.number: one.user for one in due}
            try:
                await self._compact(due[:USERS_A_PASS], known)
            except Exception:
                self._journal.withhold(Wanted(known))
                self._fleet.let_new_lanes_go()
                raise
            self._next = time.monotonic() + self._settings.after * PASS_SPACING
        if len(due) <= USERS_A_PASS:
            self._journal.withhold(None)
            self._fleet.let_new_lanes_go()
        if over := [one.number for one in under_way if one.is_over(told)]:
            await self._erasures.forget_ids(over)
            self._watch.forget()
            await self._erasures.overwrite_deleted()
            await self._erasures.mark_done(over)
            log.info("erasures done", erasures=sorted(over))

    async def _compact(self, due: Sequence[Erasure], known: dict[int, User]) -> None:
        """Remove the users' events from the journal and the tables. Add ids that are found to the `known` ones."""
        numbers, head = [one.number for one in due], self._journal.head
        try:
            users = await self._share_ids(numbers, known, head)
            wanted = Wanted({one.number: one.user for one in users})
            offsets = await self._erase_from_journal(wanted, head, {one.number: one.counted for one in due})
            await self._fleet.rest_each_lane(lambda name: self._erasures.erase_users(name, wanted, offsets))
            running = [lane.name for lane in self._fleet.lanes]
            for connector in await self._erasures.find_removed_connectors(running):
                await self._erasures.erase_users(connector, wanted, offsets)
            await self._erasures.erase_users(None, wanted, offsets)
            await self._erasures.overwrite_deleted()
        except Exception as error:
            problem = _describe_error(error)
            with suppress(Unavailable):
                await self._erasures.save_problem(numbers, problem)
            raise
        await self._erasures.mark_erased(users)
        log.info("users erased from journal and tables", erasures=numbers)

    async def _share_ids(self, numbers: Sequence[int], known: dict[int, User], head: int) -> list[Erasure]:
        """Find and save all ids of the users, here and for the other workers; return the erasures with all ids.

        Add the ids to those that are known of each erasure.
        A device id of an external id stays unknown if only events with that external id tell it. Those events are found
        by the external id.
        """
        for number in numbers:
            kept = await self._erasures.find_external_ids(known[number].user_id)
            known[number] = merge_users(known[number], User(None, tuple(kept)))
        wanted = Wanted({number: known[number] for number in numbers})
        for part in (
            await self._erasures.find_parked_ids(wanted),
            await self._journal.find_more_ids(wanted, head),
        ):
            for number, more in part.items():
                known[number] = merge_users(known[number], more)
        erasures = await self._erasures.save_found_ids({number: known[number] for number in numbers})
        await self._erasures.share(erasures)
        return erasures

    async def _erase_from_journal(self, wanted: Wanted, head: int, counted: Mapping[int, int]) -> Offsets:
        """Erase the users from the events below `head`; return the offsets of their events.

        `counted`: the offset below which the events of each erasure were counted before a crash. The events of an
        earlier pass cannot be told apart any more, and count as the first erasure's.
        """
        offsets: Offsets = {}
        async with aclosing(self._journal.erase(wanted, head)) as stretches:
            async for stretch in stretches:
                if stretch.erased or stretch.changed:
                    counts = {"events": _count(stretch.erased, counted), "changed": _count(stretch.changed, counted)}
                    await self._erasures.add_counts(counts, stretch.end)
                offsets |= {**stretch.erased} | dict.fromkeys(stretch.before, frozenset({min(counted)}))
        return offsets


def _describe_error(error: Exception) -> str:
    """Describe an error. The message of a bug is left out, because it might name a user."""
    return str(error) if isinstance(error, Unavailable) else f"a bug in relay: {type(error).__name__}"


def _count(found: Mapping[int, frozenset[int]], known: Mapping[int, int]) -> Counter[int]:
    """Count the events of each erasure that were not counted before a crash."""
    return Counter(number for offset, whose in found.items() for number in whose if offset >= known[number])
