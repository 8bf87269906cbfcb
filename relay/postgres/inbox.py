"""Takes in the events of one process, whichever partitions the process runs.

How it fails and recovers: events go to the partitions that this process runs, by turns. While a partition commits, the
next thousands of events go there, too: small requests share a commit then, and a commit costs as much as the delivery
of dozens of events. A partition that refuses events is left out while another takes them. A partition that was taken
over gets no more events through its log; without any partition, the process appends to another's.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from relay.api import Block, Kind
from relay.histogram import QUICK, Histogram
from relay.postgres.connection import Database
from relay.postgres.log.appender import PostgresAppender
from relay.postgres.log.log import PostgresLog
from relay.postgres.state.state import PostgresSources
from relay.store import Clock, EventIds, JournalLimits, Unavailable

TURN_EVENTS: Final = 4096
"""Events after which the next partition has its turn, at the latest."""


class Appended:
    """What this process has appended, to whichever partitions."""

    def __init__(self) -> None:
        self._used = set[PostgresAppender]()
        self._former = Histogram(QUICK)
        """The durations of commits in logs that are closed."""
        self._former_failed = 0
        """Failed commits in logs that are closed."""
        self.bytes = 0
        self.taps: set[Callable[[Block], object]] = set()

    @property
    def failed(self) -> int:
        return sum((one.failed for one in self._used), self._former_failed)

    @property
    def syncs(self) -> Histogram:
        return sum((one.syncs for one in self._used), self._former)

    def count(self, used: PostgresAppender) -> None:
        """Count what this process appends by an appender from now on."""
        for one in [one for one in self._used if not one.is_usable]:
            self._used.remove(one)
            self._former += one.syncs
            self._former_failed += one.failed
        self._used.add(used)
        used.own_taps.add(self._note)

    def _note(self, block: Block) -> None:
        self.bytes += len(block.body)
        for tap in self.taps:
            tap(block)


class ChoosingAppender:
    """Appends to one partition or another. See `relay.store.Appender`."""

    def __init__(self, list_choices: Callable[[], Sequence[PostgresAppender]], appended: Appended) -> None:
        self._list_choices, self._appended, self._turn = list_choices, appended, 0
        self._chosen: PostgresAppender | None = None
        """The appender whose turn it is; None: no turn has begun."""
        self._left = 0
        """Events of this turn that are left."""

    @property
    def clock(self) -> Clock:
        return self._choose().clock

    @property
    def bytes(self) -> int:
        return self._appended.bytes

    @property
    def failed(self) -> int:
        return self._appended.failed

    @property
    def syncs(self) -> Histogram:
        return self._appended.syncs

    @property
    def taps(self) -> set[Callable[[Block], object]]:
        return self._appended.taps

    @property
    def refusing(self) -> str | None:
        return self._choose().refusing

    @property
    def failing(self) -> bool:
        return self._choose().failing

    def _choose(self) -> PostgresAppender:
        """Return an appender that takes events if any does."""
        chosen = self._chosen
        return chosen if chosen is not None and chosen.is_usable and not chosen.refusing else self._find_next()

    def _find_next(self) -> PostgresAppender:
        choices = self._list_choices()
        takers = [one for one in choices if not one.refusing] or choices
        return takers[self._turn % len(takers)]

    def _take(self, events: int) -> PostgresAppender:
        """Choose an appender for so many events, and count what this process appends there."""
        chosen = self._chosen
        if chosen is None or self._left <= 0 or not chosen.is_committing or not chosen.is_usable or chosen.refusing:
            chosen = self._begin_turn()
        self._left -= events
        return chosen

    def _begin_turn(self) -> PostgresAppender:
        chosen = self._chosen = self._find_next()
        self._turn, self._left = self._turn + 1, TURN_EVENTS
        self._appended.count(chosen)
        return chosen

    async def append(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        try:
            return await self._take(len(bodies)).append(kinds, bodies)
        except Unavailable as error:
            if error.reason != "taken":
                raise
            return await self.append(kinds, bodies)  # another process has the partition: its log is no choice any more

    def append_new(
        self, kinds: Sequence[Kind], bodies: Sequence[Any], by: EventIds
    ) -> AbstractAsyncContextManager[Sequence[int]]:
        return self._take(len(bodies)).append_new(kinds, bodies, by)

    async def forget_ids(self, but: Collection[str]) -> None:
        await self._choose().forget_ids(but)

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        return self._choose().check_size(kinds, bodies)


class PostgresInbox:
    """The inbox of one process. See `relay.store.Inbox`."""

    def __init__(
        self, database: Database, slot: int, other: int, open_logs: Mapping[int, PostgresLog], limits: JournalLimits
    ) -> None:
        """`slot`: the number of this process among all. `other`: the partition to use without one of its own.
        `open_logs`: by partition the logs that this process opens, now and later."""
        self._database, self._open_logs = database, open_logs
        self._first, self._any = (PostgresAppender(database, number, limits) for number in (0, other))
        appended = Appended()  # relay tail shows the events of partition 0, too
        self.events = ChoosingAppender(self._list_logs, appended)
        self.first = ChoosingAppender(self._list_first, appended)
        self.sources = PostgresSources(database, other, slot=slot)

    @property
    def outage(self) -> str | None:
        known = self._database.outage
        return None if known is None else known.reason

    def _list_logs(self) -> Sequence[PostgresAppender]:
        return [log for log in self._open_logs.values() if log.is_usable] or [self._any]

    def _list_first(self) -> Sequence[PostgresAppender]:
        log = self._open_logs.get(0)
        return [log if log is not None and log.is_usable else self._first]

    def set_limits(self, limits: JournalLimits) -> None:
        for one in (self._first, self._any):
            one.set_limits(limits)

    async def close(self) -> None:
        for one in (self._first, self._any):
            await one.close()
        self.sources.close()
