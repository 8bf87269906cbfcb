"""The state of the toy engine: dictionaries. A transaction works on a copy, which takes their place at its end."""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from relay.api import Connector
from relay.store import (
    NUMBERS,
    Attempts,
    Clock,
    Cursor,
    Damage,
    Erasure,
    LaneLedger,
    Parked,
    ParkedLimits,
    Pause,
    Reason,
    Removals,
    RemovedParked,
    Replay,
    SourceLedger,
    Unavailable,
    measure_parked,
)
from relay.testing import MemoryStore
from tests.toy_store.erasures import ToyErasures
from tests.toy_store.log import TAKEN, ToyLog

if TYPE_CHECKING:
    from tests.toy_store.shared import ToyWorld

LOOK_S = 0.02
T = TypeVar("T")


@dataclass
class ToyTables:
    """What one partition knows beside its events."""

    lanes: dict[str, LaneLedger] = field(default_factory=dict)
    """By connector, the one saved last last."""
    parked: dict[int, Parked] = field(default_factory=dict)
    replays: dict[int, Replay] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    attempts: dict[tuple[str, int, int, int, int], Attempts] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    sources: dict[str, SourceLedger] = field(default_factory=dict)
    memories: dict[str, str] = field(default_factory=dict)
    erasures: dict[int, Erasure] = field(default_factory=dict)
    watched: int | None = None
    """The offset below which the log was searched for requests."""
    identities: set[tuple[str, str]] = field(default_factory=set)
    head: int = 0
    """The offset below which all events were acknowledged."""
    parked_number: int = 0
    """The last number that was given."""
    replay_number: int = 0


@dataclass
class ToyBooks:
    """Stands for the disk of one partition."""

    number: int = 0
    tables: ToyTables = field(default_factory=ToyTables)
    cuts: dict[str, list[bytes]] = field(default_factory=dict)
    epoch: int = 0
    """How often the partition was opened."""
    writes: int = 0
    """How often somebody beside the State has written."""
    stores: dict[str, MemoryStore] = field(default_factory=dict)
    """The store of each connector."""
    log: ToyLog | None = None
    is_in_use: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def change(self, work: Callable[[ToyTables], T]) -> T:
        """Change the tables as somebody beside the State."""
        with self.lock:
            self.writes += 1
            return work(self.tables)


class ToyCuts:
    """Saved cuts. See `relay.store.CutLines`."""

    def __init__(self, saved: dict[str, list[bytes]], name: str) -> None:
        self._saved, self._name, self.where = saved, name, f"cuts of {name} in memory"

    def load(self) -> list[bytes]:
        return [*self._saved.get(self._name, ())]

    def append(self, line: bytes) -> None:
        self._saved[self._name].append(line)

    def rewrite(self, lines: Sequence[bytes]) -> None:
        self._saved[self._name] = [*lines]

    def close(self) -> None:
        pass

    def remove(self) -> None:
        self._saved.pop(self._name, None)


class ToyState:
    """A state in memory. See `relay.store.State`."""

    def __init__(
        self,
        books: ToyBooks,
        first: ToyBooks | None = None,
        clock: Clock | None = None,
        others: Callable[[], list[ToyBooks]] = list,
        when_taken: Callable[[str], object] = lambda reason: None,
        world: "ToyWorld | None" = None,
        is_holder: bool = True,
    ) -> None:
        """`first`: the books of the first partition, unless these are. `others` returns those of all others.
        `when_taken` gets the reason when another process has opened the books. `is_holder`: this ends the State before;
        otherwise nothing ends this."""
        books.epoch += is_holder
        books.writes += 1
        self._world, self._is_holder = world, is_holder
        self._books, self._first, self._epoch = books, first or books, books.epoch
        self.worker, self.clock = books.number, clock or Clock()
        self.parked_limits, self.save_s = ParkedLimits(), 0.25
        self.removals: dict[Reason, Removals] = {}
        self._removed, self._when_taken, self._is_closed = 0, when_taken, False
        self.now: int | None = None if world is None else books.tables.head
        self.refusing: str | None = None
        self.busy_for = 0.0
        self.erasures = ToyErasures(self._write, others)

    def _write(self, work: Callable[[ToyTables], T]) -> T:
        """Run work as one transaction."""
        with self._books.lock:
            try:
                if self._is_closed:
                    raise Unavailable("the state is closed")
                if self._world is not None:
                    self._world.check()
                if self._is_holder and (reason := self._find_loss()):
                    raise Unavailable(reason, "taken")
                copy = deepcopy(self._books.tables)
                result = work(copy)
            except Unavailable as error:
                self.refusing = str(error)
                if error.reason == "taken":
                    self._when_taken(self.refusing)
                raise
            self._books.tables, self.refusing = copy, None
            return deepcopy(result)

    def _find_loss(self) -> str | None:
        """Return why this process may work with the books no more; None: it may."""
        if self._books.epoch > self._epoch:
            return TAKEN
        return None if self._world is None else self._world.find_loss(self._books)

    async def await_taken(self) -> str:
        while (reason := self._find_loss()) is None:
            await asyncio.sleep(LOOK_S)
        return reason

    def make_plugin_store(self, connector: Connector) -> MemoryStore:
        return self._books.stores.setdefault(connector.name, MemoryStore())

    async def await_answer(self) -> None:
        pass

    async def changes(self) -> int:
        return self._books.writes + self._removed

    async def load_cursor(self, connector: str) -> Cursor | None:
        return self._write(lambda now: now.lanes[connector].cursor if connector in now.lanes else None)

    async def find_begun(self, connector: str) -> float | None:
        return None

    async def read_lane_ledgers(self) -> list[LaneLedger]:
        return self._write(lambda now: [*reversed(now.lanes.values())])

    async def save(
        self,
        cursors: Mapping[str, Cursor],
        head: int,
        delivered_again: Sequence[Parked] = (),
        replays: Mapping[int, Cursor] = MappingProxyType({}),
        attempts: Sequence[Attempts] = (),
        damage: Sequence[Damage] = (),
    ) -> None:
        def write(now: ToyTables) -> None:
            now.head = max(now.head, head)
            for name, cursor in cursors.items():
                now.lanes.pop(name, None)
                now.lanes[name] = LaneLedger(name, head, cursor.copy())
            for sent in delivered_again:
                for number, one in [*now.parked.items()]:
                    if _find_place(one) == _find_place(sent) and one.attempts == sent.attempts:
                        del now.parked[number]
            for number, cursor in replays.items():
                over = time.time() if cursor.position >= now.replays[number].stop else None
                now.replays[number] = replace(now.replays[number], cursor=cursor.copy(), saved=time.time(), ended=over)
            for made in attempts:
                before = now.attempts.get(made.key)
                now.attempts[made.key] = replace(made, answer=made.answer or (before.answer if before else ""))
            now.damage += [one for one in damage if one.start not in {known.start for known in now.damage}]

        self._write(write)

    async def save_end(self, head: int) -> None:
        await self.save({}, head)

    async def forget_attempts(self, oldest: int) -> None:
        def write(now: ToyTables) -> None:
            now.attempts = {key: one for key, one in now.attempts.items() if one.ranges[-1][1] > oldest}

        self._write(write)

    async def read_accepted(self) -> None:
        self.now = None

    async def read_pauses(self) -> dict[str, Pause]:
        present = time.time()
        return self._write(lambda now: {name: one for name, one in now.pauses.items() if not one.is_over(present)})

    async def follow_pauses(self) -> None:
        def write(now: ToyTables) -> None:
            now.pauses = {**self._first.tables.pauses}

        self._write(write)

    async def read_replays(self) -> list[Replay]:
        is_open = "waiting", "running"
        return self._write(lambda now: [one for one in reversed(now.replays.values()) if one.status in is_open])

    async def park(self, parked: Sequence[Parked]) -> list[int]:
        while gone := self._write(lambda now: _make_room(now, self.parked_limits, sum(map(_measure, parked)))):
            self._note_removed(gone)

        def write(now: ToyTables) -> list[int]:
            return [_park(now, one, self.worker) for one in parked]

        return self._write(write)

    async def unpark(self, numbers: Sequence[int]) -> None:
        def write(now: ToyTables) -> None:
            for number in numbers:
                now.parked.pop(number, None)

        self._write(write)

    async def read_marked(
        self, connector: str, events: int, size: int, offsets: Sequence[int] | None = None
    ) -> list[Parked]:
        def read(now: ToyTables) -> list[Parked]:
            mine = sorted((one for one in now.parked.values() if one.connector == connector), key=_find_place)
            first = {one.key: one for one in reversed(mine)}
            found: list[Parked] = []
            room = size
            for one in mine:
                is_due = (one.again or one.cause == "order") and (one.key is None or first[one.key] is one)
                if not is_due or (offsets is not None and one.offset not in offsets):
                    continue
                room -= len(one.body)
                if len(found) == events or (found and room < 0):
                    break
                found.append(one)
            return found

        return self._write(read)

    async def read_parked_places(self, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
        found = await self.read_parked_in(connector, [(offset, offset + 1) for offset in offsets])
        return {(one.event.offset, one.part) for one in found}

    async def read_parked_keys(self, connector: str, but: Sequence[int] = ()) -> set[str]:
        def read(now: ToyTables) -> set[str]:
            mine = [one for one in now.parked.values() if one.connector == connector and one.number not in but]
            return {one.key for one in mine if one.key is not None}

        return self._write(read)

    async def read_parked_in(self, connector: str, ranges: Sequence[tuple[int, int]]) -> list[Parked]:
        def read(now: ToyTables) -> list[Parked]:
            mine = [one for one in now.parked.values() if one.connector == connector and one.replay is None]
            return [
                replace(one, body=b"") for start, stop in ranges for one in mine if start <= (one.offset or 0) < stop
            ]

        return self._write(read)

    async def remove_parked(self) -> bool:
        oldest = self.clock.now(self.parked_limits.retention) - self.parked_limits.retention

        def write(now: ToyTables) -> list[RemovedParked]:
            if self.parked_limits.retention:
                old = [one for one in now.parked.values() if one.last < oldest and one.again is None]
                if old:
                    return [_remove(now, one, "retention") for one in old]
            return _make_room(now, self.parked_limits, 0)

        gone = self._write(write)
        self._note_removed(gone)
        return bool(gone)

    def _note_removed(self, gone: Sequence[RemovedParked]) -> None:
        self._removed += len(gone)
        for one in gone:
            self.removals.setdefault(one.reason, Removals()).add(one)

    async def shrink(self) -> bool:
        return False

    def open_cuts(self, connector: str, part: str = "") -> ToyCuts:
        return ToyCuts(self._books.cuts, f"{connector}.{part}")

    async def remove_cuts_of_replays(self, but: Collection[int]) -> None:
        for name in [*self._books.cuts]:
            part = name.rpartition(".")[2]
            if part.isdecimal() and int(part) not in but:
                del self._books.cuts[name]

    async def read_sources(self) -> dict[str, SourceLedger]:
        return self._write(lambda now: now.sources)

    def save_sources(self, ledgers: Sequence[SourceLedger]) -> asyncio.Future[object]:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        try:
            self._write(lambda now: now.sources.update({one.source: one for one in ledgers}))
        except Unavailable as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done

    async def read_memories(self) -> dict[str, str]:
        return self._write(lambda now: now.memories)

    async def save_memory(self, source: str, memory: str) -> None:
        self._write(lambda now: now.memories.update({source: memory}))

    def close(self) -> None:
        self._is_closed = True
        if self._books.epoch == self._epoch:
            self._books.is_in_use = False


def _find_place(one: Parked) -> tuple[str | None, int, int]:
    return one.connector, one.offset or 0, one.part


def _measure(one: Parked) -> int:
    return measure_parked(one.reason, one.answer, one.key, one.body)


def _park(now: ToyTables, one: Parked, partition: int) -> int:
    """Park an event; return its number."""
    at = time.time()
    for known in now.parked.values():
        if one.connector and _find_place(known) == _find_place(one):
            now.parked[known.number] = replace(
                one,
                number=known.number,
                attempts=known.attempts + one.attempts,
                first=known.first,
                last=at,
                again=known.again if known.again and known.again > (one.first or at) else None,
                replay=known.replay,
            )
            return known.number
    now.parked_number += 1
    number = partition * NUMBERS + now.parked_number
    now.parked[number] = replace(one, number=number, first=one.first or at, last=at)
    return number


def _make_room(now: ToyTables, limits: ParkedLimits, size: int) -> list[RemovedParked]:
    """Remove an event if so many more bytes are too many, the oldest unreadable one first; return it."""
    if not limits.max_size or sum(map(_measure, now.parked.values())) + size <= limits.max_size:
        return []
    unmarked = sorted((one for one in now.parked.values() if not one.again), key=lambda one: one.last)
    unreadable = [one for one in unmarked if one.connector is None]
    return [_remove(now, one, "max_size") for one in (unreadable or unmarked)[:1]]


def _remove(now: ToyTables, one: Parked, reason: Reason) -> RemovedParked:
    del now.parked[one.number]
    return RemovedParked(one.source, one.connector, one.cause, one.last, _measure(one), reason)
