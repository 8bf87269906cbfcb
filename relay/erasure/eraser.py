"""Erases users who asked for it: out of the journal, out of the tables, and at the destinations.

How it fails and recovers: an erasure is a row that says how far it is, and every step may be done again.

1. What tells the user's external ids is read, and they are kept: later their events are gone. With several workers
   each is told whom to erase, and what they are called, before one of them removes anything.
2. Segments with events of theirs are written anew beside the old ones, and take their places one by one.
3. Each lane is put to rest, which lets go of what it has in memory; its parked events go while it rests.
4. The database is written anew, so that nothing is left in its free pages.
5. The connectors are told, each for itself, again and again until it succeeds: by the first worker, once no other one
   can still write the user's events there. What failed at one waits for it, also while it is not configured, until an
   admin forgets it.
6. The ids are forgotten. What stays is the receipt.
"""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import structlog

from relay.api import User
from relay.catalogue import Selection
from relay.config import ErasureSettings
from relay.deliver import Fleet, LiveLane
from relay.erasure.destinations import ConnectorErasure
from relay.erasure.requests import ErasureWatch
from relay.erasure.tables import TableErasure, parked_ids, strangers
from relay.journal import (
    DAY_S,
    Corrupt,
    Journal,
    Segment,
    Wanted,
    copies_of,
    is_locked,
    merged_users,
    more_ids,
    plan,
    rewrite,
)
from relay.state import (
    Erasure,
    State,
    add_counts,
    correct_asked,
    find_external_ids,
    find_failing_at_connectors,
    forget_failed,
    forget_ids,
    mark_compacted,
    mark_done,
    mark_erased,
    other_folders,
    read_erasures,
    save_found_ids,
    share_erasures,
)
from relay.threads import ADMIN

LOOK_S: Final = 0.5
AGAIN_S: Final = 30.0
MOST: Final = 500
"""Users of one pass over the journal; the others follow with the next one."""
GONE_ADVICE: Final = "configure it again under this name to have them erased there, or forget it (relay forget)"
GATHERED: Final = 0.1
"""Passes are at least so far apart, in terms of `after`."""
T = TypeVar("T")
Offsets = dict[int, frozenset[int]]
log = structlog.stdlib.get_logger()


class ErasureBusy(Exception):
    """Somebody was reading the database, so what was removed from it may still be in its files."""


class Eraser:
    """Sees to it that erasures are done."""

    def __init__(
        self, fleet: Fleet, journal: Journal, state: State, settings: ErasureSettings, worker: int = 0
    ) -> None:
        self._fleet, self._journal, self._state, self._settings = fleet, journal, state, settings
        self._worker = worker
        self._watch = ErasureWatch(journal, state, settings.model_copy(update={"on": ()}) if worker else settings)
        self._next = 0.0
        self._at_connectors = False
        """Whether erasures have come so far that connectors may have to be told."""

    @property
    def wants(self) -> list[Selection]:
        """Which events the first worker has to have in its journal."""
        return [Selection(self._settings.on)] if self._settings.on else []

    async def is_idle(self) -> bool:
        """Whether no erasure is under way. Raises sqlite3.Error."""
        return not await self._state.look(lambda db: read_erasures(db, "done IS NULL"))

    @property
    def _told(self) -> Sequence[LiveLane]:
        """The lanes whose connectors are told, or of which the first worker is told that their threads are back."""
        return self._fleet.lanes

    async def open(self) -> None:
        """Get ready, before events come in. Raises sqlite3.Error."""
        if self._worker:
            await self._state.run(forget_failed)
        else:
            await self._tell_abandoned()
        if self._watch.is_needed:
            await self._watch.open()
        self._fleet.also_needed = (lambda: self._watch.position) if self._watch.is_needed else None

    async def _tell_abandoned(self) -> None:
        """Say where erasures failed that nobody tries again: at connectors that are not configured any more."""
        running = {lane.name for lane in self._told}
        for one in await self._state.look(find_failing_at_connectors):
            if one.connector not in running:
                news = {"connector": one.connector, "erasures": one.erasures, "reason": one.reason}
                log.warning("connector is gone but has users to erase", **news, advice=GONE_ADVICE)

    async def run(self) -> None:
        """Notice what is asked for and do it, for ever."""
        told = self._told
        async with asyncio.TaskGroup() as group:
            if self._watch.is_needed:
                group.create_task(self._watch.run(), name="look for erasures")
            for lane in told:
                erasing = ConnectorErasure(lane, self._state, lambda: self._at_connectors, self._worker)
                group.create_task(erasing.run(), name=f"erasures of {lane.name}")
            group.create_task(self._keep_erasing([lane.name for lane in told]), name="erase")

    async def _keep_erasing(self, told: Sequence[str]) -> None:
        while True:
            try:
                await self._erase(told)
                await asyncio.sleep(LOOK_S)
            except Exception as error:
                log.error("erasing failed, will be tried again", in_s=AGAIN_S, error=_said(error))
                await asyncio.sleep(AGAIN_S)

    async def _erase(self, told: Sequence[str]) -> None:
        """Do what is due; these connectors are told."""
        under_way = await self._state.look(lambda db: read_erasures(db, "done IS NULL"))
        self._at_connectors = any(one.compacted for one in under_way)
        now = self._journal.clock.now()
        if not self._journal.clock.ahead and any(one.asked > now + DAY_S for one in under_way):
            await self._state.run(lambda db: correct_asked(db, now, now + DAY_S))
            return  # they were asked for by a clock that was ahead: they wait from now on
        last = now - self._settings.after
        due = [one for one in reversed(under_way) if not one.compacted and one.asked <= last]
        if due and time.monotonic() >= self._next:
            await self._compact(due[:MOST])
            self._next = time.monotonic() + self._settings.after * GATHERED
        if over := [one.number for one in under_way if one.is_over(told)]:
            await self._finish(over)

    async def _finish(self, numbers: Sequence[int]) -> None:
        await self._state.run(lambda db: forget_ids(db, numbers))
        self._watch.forget()
        await self._clean()
        await self._state.run(lambda db: mark_done(db, numbers))
        log.info("erasures done", erasures=sorted(numbers))

    async def _compact(self, due: Sequence[Erasure]) -> None:
        numbers = [one.number for one in due]
        try:
            users = await self._remove(due)
            await self._clean()
        except Exception as error:
            problem = _said(error)
            with suppress(sqlite3.Error):
                await self._state.run(lambda db: mark_compacted(db, numbers, problem))
            raise
        await self._state.run(lambda db: mark_erased(db, users))
        log.info("users erased from journal and tables", erasures=numbers)

    async def _remove(self, due: Sequence[Erasure]) -> Sequence[Erasure]:
        """Remove them; return who they are, as far as that was known."""
        segments = await self._journal.roll()
        users = await self._learn({one.number: one.user for one in due}, segments)
        wanted = Wanted({one.number: one.user for one in users})
        await self._share(users)
        offsets: Offsets = {}
        for segment in segments:
            offsets |= await self._remove_from(segment, wanted, {one.number: one.counted for one in due})
        for path in await ADMIN.run(copies_of, self._journal.folder, wanted):
            path.unlink()
            log.warning("a damaged segment that was kept is removed: it names an erased user", file=path.name)
        await self._fleet.rest(lambda connector: self._state.run(TableErasure(connector, wanted, offsets)))
        names = [lane.name for lane in self._fleet.lanes]
        for connector in await self._state.look(lambda db: strangers(db, names)):
            await self._state.run(TableErasure(connector, wanted, offsets))
        await self._state.run(TableErasure(None, wanted, offsets))
        return users

    async def _share(self, users: Sequence[Erasure]) -> None:
        for folder in await ADMIN.run(other_folders, self._state.folder, self._worker):
            await ADMIN.run(share_erasures, folder, users)
            if not is_locked(folder):
                log.warning("a worker that does not run erases at its next start", folder=str(folder))

    async def _learn(self, users: Mapping[int, User], segments: Sequence[Segment]) -> list[Erasure]:
        """Find all ids of the users, and keep them. Device ids of an external id that only its own events tell stay
        unknown: they are found by what was known before."""
        found = dict(users)
        for number, user in users.items():
            kept = await self._state.look(partial(find_external_ids, user_id=user.user_id))
            found[number] = merged_users(user, User(None, tuple(kept)))
        known = Wanted(found)
        parts = [await self._state.look(lambda db: parked_ids(db, known))]
        parts += [part for segment in segments if (part := await self._on(more_ids, segment, known))]
        for part in parts:
            for number, more in part.items():
                found[number] = merged_users(found[number], more)
        return await self._state.run(lambda db: save_found_ids(db, found))

    async def _remove_from(self, segment: Segment, wanted: Wanted, known: Mapping[int, int]) -> Offsets:
        """Take the users out of a segment; return where their events were. What an earlier pass erased is no longer to
        be told apart, and counts as the first one's."""
        planned = await self._on(plan, segment, wanted)
        if planned is None:
            return {}
        if not planned.is_empty:
            counts = {"events": _count(planned.gone, known), "changed": _count(planned.changed, known)}
            await self._state.run(lambda db: add_counts(db, counts, segment.end))
            if (fresh := await self._on(rewrite, segment, wanted)) is not None:
                await self._journal.replace(segment, fresh)
        return planned.gone | dict.fromkeys(planned.before, frozenset({min(known)}))

    async def _on(self, work: Callable[[Segment, Wanted], T], segment: Segment, wanted: Wanted) -> T | None:
        """Work on a segment in a thread; None if retention has removed it."""
        try:
            return await ADMIN.run(work, segment, wanted)
        except FileNotFoundError:
            if segment.base >= self._journal.oldest:
                raise
            return None

    async def _clean(self) -> None:
        if not await self._state.clean():
            raise ErasureBusy("another process is reading relay.db")


def _said(error: Exception) -> str:
    """What went wrong. The text of a bug might name a user."""
    if isinstance(error, Corrupt):
        return f"{error}; erasures need a whole journal: stop relay, relay journal repair, start relay"
    is_known = isinstance(error, sqlite3.Error | OSError | ErasureBusy)
    return str(error) if is_known else f"a bug in relay: {type(error).__name__}"


def _count(found: Offsets, known: Mapping[int, int]) -> Counter[int]:
    """The events of each erasure that it has not counted before a crash."""
    return Counter(number for offset, whose in found.items() for number in whose if offset >= known[number])
