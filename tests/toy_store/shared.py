"""How processes share the partitions of the toy engine. Other processes are only played."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relay.api import Block, Kind
from relay.histogram import QUICK, Histogram
from relay.store import Appender, Clock, EventIds, JournalLimits, SourceState, Unavailable
from tests.toy_store.log import TAKEN, ToyLog
from tests.toy_store.state import ToyState

if TYPE_CHECKING:
    from tests.toy_store.state import ToyBooks
    from tests.toy_store.store import ToyStore

LEASE_S: Final = 1.0
AWAY: Final = "the toy store is away"


@dataclass
class ToyWorld:
    """What happens to a store from outside. A file in JSON with these names may say it, for a store in another
    process."""

    elsewhere: Collection[int] = ()
    """Partitions that another process is to run."""
    taken: Collection[int] = ()
    """Partitions that another process works with."""
    broken: Collection[int] = ()
    """Partitions that cannot be opened."""
    partitions: int = 0
    """The number of partitions, once another process has added some."""
    away: bool = False
    """Whether the store does not answer."""
    file: Path | None = None
    answered: float = 0.0
    """When the store answered for the last time, in monotonic seconds."""

    def look(self) -> None:
        """Read the file, if there is any."""
        if self.file is not None and self.file.exists():
            vars(self).update(json.loads(self.file.read_text()))
        if not self.away:
            self.answered = time.monotonic()

    def check(self) -> None:
        """Raise Unavailable while the store is away."""
        self.look()
        if self.away:
            raise Unavailable(AWAY)

    def find_loss(self, books: "ToyBooks") -> str | None:
        """Return why this process may not work with a partition; None: it may."""
        self.look()
        if books.number in self.taken:
            books.is_in_use = False
            books.epoch += 1
            return TAKEN
        return AWAY if time.monotonic() > self.answered + LEASE_S else None


class ToyAppender:
    """Appends to one partition or another. See `relay.store.Appender`."""

    def __init__(
        self,
        choose: Callable[[], ToyLog],
        get_first: Callable[[], ToyLog],
        world: ToyWorld,
        counting: "ToyAppender | None" = None,
    ) -> None:
        """`choose` returns the log for the next events. `get_first` returns that of the first partition. `counting`
        counts and shows what is appended."""
        self._choose, self._get_first, self._world, self._counting = choose, get_first, world, counting or self
        self.clock, self.syncs = Clock(), Histogram(QUICK)
        self.bytes = self.failed = 0
        self.refusing: str | None = None
        self.taps: set[Callable[[Block], object]] = set()

    @property
    def failing(self) -> bool:
        return self.refusing is not None

    async def append(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        try:
            self._world.check()
            log = self._choose()
            offset = await log.append(kinds, bodies)
        except Unavailable as error:
            if error.reason == "taken":  # another process has opened the partition meanwhile
                return await self.append(kinds, bodies)
            self.failed += 1
            self.refusing = str(error)
            raise
        self.refusing = None
        self._counting.bytes += sum(map(len, bodies))
        (block,) = (block for block in log.blocks if offset in block.offsets)
        for tap in self._counting.taps:
            tap(block)
        return offset

    def append_new(
        self, kinds: Sequence[Kind], bodies: Sequence[Any], by: EventIds
    ) -> AbstractAsyncContextManager[Sequence[int]]:
        return self._get_first().append_new(kinds, bodies, by, self.append)

    async def forget_ids(self, but: Collection[str]) -> None:
        await self._get_first().forget_ids(but)

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        return self._get_first().check_size(kinds, bodies)


@dataclass
class ToyInbox:
    """The inbox of one process. See `relay.store.Inbox`."""

    events: Appender
    first: Appender
    sources: SourceState
    outage: None = None

    def set_limits(self, limits: JournalLimits) -> None:
        pass

    async def close(self) -> None:
        pass


def open_shared_inbox(store: "ToyStore", limits: JournalLimits) -> ToyInbox:
    """Open an inbox that appends by turns to the partitions that this process runs, or to all if there are none."""
    turns, first = count(), store.books[0].log or ToyLog(limits)
    for books in store.books.values():
        books.log = books.log or ToyLog(limits)
        books.log.share_ids(first)

    def find_log(partition: int) -> ToyLog:
        log = store.books[partition].log
        assert log is not None
        return log

    def find_next() -> ToyLog:
        mine = [number for number, books in store.books.items() if books.is_in_use] or [*store.books]
        return find_log(mine[next(turns) % len(mine)])

    sources = ToyState(store.books[0], world=store.world, is_holder=False)

    def get_first() -> ToyLog:
        return find_log(0)

    events = ToyAppender(find_next, get_first, store.world)
    return ToyInbox(events, ToyAppender(get_first, get_first, store.world, events), sources)


class ToyMembership:
    """One process among all. See `relay.store.Membership`."""

    def __init__(self, store: "ToyStore", worker: int) -> None:
        self._store, self._worker = store, worker
        store.workers.add(worker)

    def find_wanted(self, failing: Collection[int] = ()) -> list[int]:
        if not self._store.shared_partitions:
            return [self._worker]
        self._store.world.check()
        self._store.shared_partitions = max(self._store.shared_partitions, self._store.world.partitions)
        workers = sorted(self._store.workers)
        mine = range(workers.index(self._worker), self._store.shared_partitions, len(workers))
        return [number for number in mine if number not in {*self._store.world.elsewhere, *failing}]

    def report(self, status: bytes, tables: Mapping[str, str]) -> None:
        if self._store.shared_partitions:
            self._store.reports[self._worker] = status, tables

    def leave(self) -> None:
        self._store.workers.discard(self._worker)
