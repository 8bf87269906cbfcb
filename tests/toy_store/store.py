"""The store of the toy engine. See `relay.store.Store`."""

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from relay.api import Block, User
from relay.store import (
    GROUP_FIELDS,
    NUMBERS,
    AlertMessage,
    Attempts,
    CheckedPart,
    Doubt,
    Entry,
    Erasure,
    FailingErasures,
    Forgotten,
    HistoryQuery,
    JournalLimits,
    LaneLedger,
    LogSurvey,
    NodeProcess,
    Parked,
    ParkedGroup,
    ParkedQuery,
    ParkedTotal,
    Passed,
    Pause,
    Range,
    Replay,
    SourceLedger,
    StoreHealth,
    Tracks,
    Unavailable,
    UnreadPart,
    find_partition,
    ignore_position,
    measure_parked,
    merge_all,
    merge_ledgers,
    order_newest,
    sum_groups,
    sum_totals,
)
from tests.toy_store.erasures import add_erasure, find_failing, take_over
from tests.toy_store.log import ToyLog
from tests.toy_store.shared import ToyInbox, ToyMembership, ToyWorld, open_shared_inbox
from tests.toy_store.state import ToyBooks, ToyState, ToyTables

NEVER = "no relay has run with this store"


class ToyStore:
    """All partitions, in memory. `partitions`: how many processes share; 0: each has its own."""

    def __init__(self, partitions: int = 0, world: ToyWorld | None = None) -> None:
        self.place, self.shared_partitions, self.world = "the toy store", partitions, world or ToyWorld()
        self.books: dict[int, ToyBooks] = {number: ToyBooks(number) for number in range(partitions or 1)}
        self.workers = set[int]()
        self.reports: dict[int, tuple[bytes, Mapping[str, str]]] = {}
        self._inboxes: dict[int, ToyInbox] = {}
        self.pauses, self.parked, self.replays = ToyPauses(self), ToyParked(self), ToyReplays(self)
        self.erasures, self.history, self.alerts = ToyStoredErasures(self), ToyHistory(self), ToyAlerts()
        self.doubts = ToyDoubts()

    def open(self, partition: int, limits: JournalLimits, memory: int) -> tuple[ToyLog, ToyState]:
        books = self.books.setdefault(partition, ToyBooks(partition))
        with books.lock:
            self.world.check()
            if books.is_in_use or partition in self.world.taken:
                raise Unavailable(f"partition {partition} of {self.place} is in use by another relay", "busy")
            if partition in self.world.broken:
                raise ValueError("its books are torn")
            books.is_in_use = True
        books.log = log = books.log.reopen(limits) if books.log else ToyLog(limits)

        def list_others() -> list[ToyBooks]:
            return [one for one in self.books.values() if one is not books]

        state = ToyState(books, self.books[0], log.clock, list_others, log.fence, self.world)
        self._inboxes[partition] = ToyInbox(log, log, state)
        return log, state

    def open_inbox(self, worker: int, limits: JournalLimits) -> ToyInbox:
        return open_shared_inbox(self, limits) if self.shared_partitions else self._inboxes[worker]

    def join(self, worker: int) -> ToyMembership:
        return ToyMembership(self, worker)

    def read_processes(self) -> list[NodeProcess]:
        own = [
            NodeProcess(
                node="toy", worker=worker, state="running", host="toy", process=os.getpid(), version="1", since=0.0,
                silent=0.0, partitions=[number for number, books in self.books.items() if books.is_in_use],
                status=status, tables=tables,
            )
            for worker, (status, tables) in self.reports.items()
        ]  # fmt: skip
        others = replace(own[0], node="other", partitions=[*self.world.elsewhere], status=b"") if own else None
        return [*own, others] if others and others.partitions else own

    def read_health(self) -> StoreHealth:
        return StoreHealth()

    def view(self, partition: int = 0) -> "ToyView":
        return ToyView(self.books.get(partition) or ToyBooks(partition))

    def view_all(self) -> "list[ToyView]":
        return [ToyView(books) for number, books in sorted(self.books.items()) if books.log or not number]

    def list_books(self) -> list[ToyBooks]:
        """Return the books of all partitions. Raises Unavailable if no relay has run."""
        if not any(books.epoch or books.log for books in self.books.values()):
            raise Unavailable(NEVER, "missing")
        return [books for _, books in sorted(self.books.items())]

    def forget(self, connector: str) -> Forgotten:
        known = merge_ledgers(lane for books in self.list_books() for lane in books.tables.lanes.values())
        if connector not in known:
            raise LookupError(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
        parked, erasures = sum(self.parked.drop(ParkedQuery(connector=connector))), 0

        def forget(now: ToyTables) -> int:
            now.lanes.pop(connector, None)
            now.pauses.pop(connector, None)
            now.replays = {number: one for number, one in now.replays.items() if one.connector != connector}
            now.attempts = {key: one for key, one in now.attempts.items() if one.connector != connector}
            failed = [one for one in now.erasures.values() if not one.done and one.failed_at(connector)]
            for one in failed:
                answers = [
                    replace(each, outcome="forgotten") if each.connector == connector else each for each in one.answers
                ]
                now.erasures[one.number] = replace(one, answers=answers)
            return len(failed)

        for books in self.list_books():
            books.stores.pop(connector, None)
            erasures += books.change(forget)
        return Forgotten(connector, known[connector].pending, parked, erasures)

    def check_complete(self) -> None:
        pass

    def describe_usage(self, workers: int, files: Iterable[Path] = ()) -> str:
        return ""

    def describe_full_disk(self, workers: int) -> str:
        return ""


class ToyView:
    """A partition for bystanders. See `relay.store.PartitionView`."""

    def __init__(self, books: ToyBooks) -> None:
        self.number, self.place, self._books = books.number, f"partition {books.number}", books

    @property
    def _tables(self) -> ToyTables:
        if not self._books.epoch and self._books.log is None:
            raise Unavailable(NEVER, "missing")
        return self._books.tables

    def is_in_use(self) -> bool:
        return self._books.is_in_use

    def find_process(self) -> int | None:
        return os.getpid() if self._books.is_in_use else None

    def has_state(self) -> bool:
        return self._books.epoch > 0

    def has_work(self) -> bool:
        now = self._books.tables
        return (
            not self._books.epoch
            or any(lane.ledger.pending for lane in now.lanes.values())
            or any(one.status in ("waiting", "running") for one in now.replays.values())
            or any(one.again for one in now.parked.values())
            or any(not one.done for one in now.erasures.values())
        )

    def view_log(self) -> "ToyLogView":
        return ToyLogView([] if self._books.log is None else self._books.log.blocks)

    def read_acknowledged(self) -> int:
        return self._books.tables.head

    def read_lanes(self) -> list[LaneLedger]:
        return [*reversed(self._tables.lanes.values())]

    def read_lanes_if_any(self) -> list[LaneLedger]:
        return self.read_lanes() if self._books.epoch else []

    def read_sources(self) -> list[SourceLedger]:
        return sorted(self._tables.sources.values(), key=lambda one: one.source)

    def read_parked_offsets(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, set[int]] = {}
        for one in self._tables.parked.values():
            if one.connector is not None and one.replay is None and one.offset is not None:
                found.setdefault(one.connector, set()).add(one.offset)
        return {connector: sorted(offsets) for connector, offsets in found.items()}

    def read_parked_totals(self) -> list[ParkedTotal]:
        return list_totals(self._tables)

    def find_parked_at(self, offsets: Sequence[int]) -> list[Parked]:
        mine = self._tables.parked.values()
        return [replace(one, body=b"") for one in mine if one.connector in self._tables.lanes and one.offset in offsets]

    def find_attempts_at(self, offset: int) -> list[Attempts]:
        made = self._tables.attempts.values()
        found = [one for one in made if any(start <= offset < stop for start, stop in one.ranges)]
        return sorted(found, key=lambda one: (one.last, one.attempts), reverse=True)

    def find_replays_over(self, offset: int) -> list[Replay]:
        found = [one for one in self._tables.replays.values() if one.cursor.start <= offset < one.stop]
        return sorted(found, key=lambda one: one.number, reverse=True)

    def was_damaged(self, offset: int) -> bool:
        return any(one.start <= offset < one.stop for one in self._tables.damage)

    def find_doubts(self) -> list[Doubt]:
        return []


class ToyLogView:
    """The events of a partition for bystanders. See `relay.store.LogView`."""

    problems: Sequence[str] = ()

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = [*blocks]

    def find_span(self) -> Range:
        return (self._blocks[0].offsets[0], self._blocks[-1].offsets[-1] + 1) if self._blocks else (0, 0)

    def list_parts(self) -> list[UnreadPart]:
        return [UnreadPart("memory", 0, math.inf, "")]

    def read(self, start: int = 0, since: float = 0.0) -> Iterator[tuple[str, Block]]:
        return (("memory", block) for block in self._blocks if block.offsets[-1] >= start)

    def check(self, passed: Passed = ignore_position) -> list[CheckedPart]:
        return []

    def survey(self, passed: Passed = ignore_position) -> LogSurvey:
        kept = [(block.offsets[0], block.offsets[-1] + 1) for block in self._blocks]
        return LogSurvey(parts=1, oldest=kept[0][0] if kept else 0, kept=kept, problems=())


class ToyPauses:
    """Pauses. See `relay.store.StoredPauses`."""

    def __init__(self, store: ToyStore) -> None:
        self._store = store

    def pause(self, connector: str, until: float | None = None) -> bool:
        before = self.read().get(connector)
        if before is not None and before.until == until:
            return False
        for books in self._store.list_books():
            books.change(lambda now: now.pauses.update({connector: Pause(time.time(), until)}))
        return True

    def resume(self, connector: str) -> bool:
        if connector not in self.read():
            return False
        for books in self._store.list_books():
            books.change(lambda now: now.pauses.pop(connector, None))
        return True

    def read(self) -> dict[str, Pause]:
        pauses = self._store.list_books()[0].tables.pauses
        return {connector: one for connector, one in pauses.items() if not one.is_over(time.time())}


class ToyParked:
    """Parked events, each a portion. See `relay.store.StoredParked`."""

    def __init__(self, store: ToyStore) -> None:
        self._store = store

    def _select(self, which: ParkedQuery) -> list[Parked]:
        found = [
            one
            for books in self._store.list_books()
            for one in [*books.tables.parked.values()]
            if (not which.numbers or one.number in which.numbers)
            and which.connector in (None, one.connector)
            and which.source in (None, one.source)
            and which.cause in (None, one.cause)
            and which.type in (None, one.type or "")
            and which.reason in (None, one.reason)
            and (which.since is None or one.last >= which.since)
            and (which.until is None or one.last <= which.until)
        ]
        return found[: which.limit]

    def _change(self, one: Parked, change: Callable[[ToyTables], object]) -> int:
        self._store.books[find_partition(one.number)].change(change)
        return 1

    def read(
        self, which: ParkedQuery, *, bodies: bool = True, newest: bool = False, after: int | None = None
    ) -> Iterator[Parked]:
        every = self._select(replace(which, limit=None))

        def read_down(partition: int, below: int | None) -> Iterator[Parked]:
            mine = [one for one in every if find_partition(one.number) == partition]
            return (one for one in reversed(mine) if below is None or one.number < below)

        def find_last(number: int) -> float | None:
            own = [one for books in self._store.list_books() for one in books.tables.parked.values()]
            above = [one for one in own if find_partition(one.number) == find_partition(number) <= one.number]
            return next((one.last for one in above if one.number >= number), None)

        found: Iterator[Parked] = (one for one in every if after is None or one.number > after)
        if newest:
            partitions = {find_partition(one.number) for one in every}
            found = order_newest(read_down, sorted(partitions), after, find_partition(after or 0), find_last)
        for one in islice(found, which.limit):
            yield one if bodies else replace(one, body=b"")

    def read_groups(self, which: ParkedQuery) -> list[ParkedGroup]:
        found = self._select(replace(which, limit=None))
        return sum_groups([*(getattr(one, name) for name in GROUP_FIELDS), 1, one.first, one.last] for one in found)

    def read_totals(self) -> list[ParkedTotal]:
        return sum_totals(total for books in self._store.list_books() for total in list_totals(books.tables))

    def count(self, which: ParkedQuery) -> int:
        return len(self._select(which))

    def drop(self, which: ParkedQuery) -> Iterator[int]:
        for one in self._select(which):
            yield self._change(one, partial(_drop, one=one))

    def mark(self, which: ParkedQuery) -> Iterator[int]:
        for one in self._select(which):
            if one.connector is not None:
                yield self._change(one, partial(_mark, one=one))


def _drop(now: ToyTables, one: Parked) -> None:
    now.parked.pop(one.number, None)


def _mark(now: ToyTables, one: Parked) -> None:
    now.parked[one.number] = replace(now.parked[one.number], again=time.time())


def list_totals(now: ToyTables) -> list[ParkedTotal]:
    """Return the totals of the parked events of a partition."""
    return sum_totals(
        ParkedTotal(
            source=one.source,
            connector=one.connector,
            cause=one.cause,
            events=1,
            bytes=measure_parked(one.reason, one.answer, one.key, one.body),
        )
        for one in now.parked.values()
    )


class ToyReplays:
    """Replays. See `relay.store.StoredReplays`."""

    def __init__(self, store: ToyStore) -> None:
        self._store = store

    def ask(self, replay: Replay, partition: int = 0) -> int:
        def write(now: ToyTables) -> int:
            now.replay_number += 1
            number = partition * NUMBERS + now.replay_number
            now.replays[number] = replace(replay, number=number)
            return number

        return self._store.books[partition].change(write)

    def cancel(self, number: int) -> bool:
        def write(now: ToyTables) -> bool:
            one = now.replays.get(number)
            if one is None or one.status not in ("waiting", "running"):
                return False
            now.replays[number] = replace(one, cancelled=time.time())
            return True

        return any(books.change(write) for books in self._store.list_books())

    def read(self) -> list[Replay]:
        found = [one for books in self._store.list_books() for one in books.tables.replays.values()]
        return sorted(found, key=lambda one: one.asked, reverse=True)


class ToyStoredErasures:
    """Erasures. See `relay.store.StoredErasures`."""

    out_of_reach = ""

    def __init__(self, store: ToyStore) -> None:
        self._store = store

    def ask(self, user: User, asked_by: str = "") -> int:
        asked = Erasure(asked=time.time(), user=user, asked_by=asked_by)
        first, *others = self._store.list_books()
        number = first.change(lambda now: add_erasure(now, asked))
        for books in others:
            books.change(lambda now: take_over(now, [replace(asked, number=number)]))
        return number

    def read(self) -> list[Erasure]:
        every = self._store.list_books()
        return merge_all((books.number, one) for books in every for one in books.tables.erasures.values())

    def find_failing(self) -> list[FailingErasures]:
        first, *others = [[*books.tables.erasures.values()] for books in self._store.list_books()]
        here = {one.number: (one.asked, one.problem) for its in (first, *others) for one in its if one.problem}
        mine = [FailingErasures(None, len(here), *min(here.values()))] if here else []
        return [*mine, *find_failing(first)]

    def count(self, after: int, since: float) -> tuple[int, int, int]:
        every = self._store.list_books()[0].tables.erasures.values()
        asked = sum(one.number > after for one in every if one.type)
        done = sum((one.done or 0.0) >= since for one in every if one.type and one.done)
        return asked, done, max((one.number for one in every), default=0)


class ToyHistory:
    """The history. See `relay.store.StoredHistory`."""

    def __init__(self, store: ToyStore) -> None:
        self._store, self._entries = store, list[Entry]()

    def add(self, entries: Sequence[Entry], keep: float = 0.0, most: int = 0) -> None:
        for one in entries:
            number = max((known.number for known in self._entries), default=0) + 1
            self._entries.append(replace(one, number=number))
        oldest = time.time() - keep if keep else 0.0
        self._entries = [one for one in self.read() if one.at >= oldest][-most:]

    def read(self, query: HistoryQuery | None = None) -> list[Entry]:
        which = query or HistoryQuery()
        self._store.list_books()
        found = [
            one
            for one in sorted(self._entries, key=lambda one: one.at)
            if (which.since is None or one.at >= which.since)
            and which.kind in (None, one.kind)
            and (which.subject is None or _is_about(one, which.subject))
        ]
        return found if which.limit < 0 else found[max(0, len(found) - which.limit) :]

    def find_last_run(self) -> tuple[str, float] | None:
        runs = [one for one in self.read() if one.kind in ("started", "stopped", "restored")]
        return (runs[-1].kind, runs[-1].at) if runs else None

    def find_done(self, since: float) -> list[Entry]:
        known = {(one.kind, one.about.get("number")) for one in self.read()}
        found = [
            Entry("replay_done", f"connector {one.connector}", "a replay is done", about={"number": one.number})
            for one in self._store.replays.read()
            if (one.ended or 0.0) >= since
        ]
        found += [
            Entry("erased", f"erasure {one.number}", "an erasure is done", about={"number": one.number})
            for one in self._store.erasures.read()
            if one.type is None and (one.done or 0.0) >= since
        ]
        return [one for one in found if (one.kind, one.about["number"]) not in known]


class ToyAlerts:
    """The memory and the messages of alerts. See `relay.store.StoredAlerts`."""

    def __init__(self) -> None:
        self._tracks: dict[str, Tracks] = {}
        self._messages: dict[str, AlertMessage] = {}

    def read(self, names: Collection[str]) -> tuple[dict[str, Tracks], list[AlertMessage]]:
        messages = [one for one in self._messages.values() if one.alert in names]
        return {name: self._tracks.get(name, {}) for name in names}, messages

    def save_tracks(self, alert: str, tracks: Tracks, messages: Sequence[AlertMessage]) -> None:
        self._tracks[alert] = tracks
        self._messages |= {one.id: one for one in messages}

    def save_message(self, message: AlertMessage) -> None:
        self._messages[message.id] = message

    def forget(self, kept: Collection[str]) -> None:
        self._tracks = {name: tracks for name, tracks in self._tracks.items() if name in kept}
        self._messages = {one.id: one for one in self._messages.values() if one.alert in kept}


class ToyDoubts:
    """No doubts. See `relay.store.StoredDoubts`."""

    def find(self) -> list[Doubt]:
        return []

    def describe_accepting(self, what: Literal["journal", "clock"]) -> str:
        return f"accepting the {what} changes nothing"

    def accept(self, what: Literal["journal", "clock"]) -> list[str]:
        return []


def _is_about(entry: Entry, subject: str) -> bool:
    """Return whether an entry is about a subject, or about a reload that has changed it."""
    subjects = (entry.subject, *entry.about.get("changed", ()))
    return any(subject in (one, one.partition(" ")[2]) for one in subjects)
