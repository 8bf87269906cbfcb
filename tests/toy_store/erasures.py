"""The erasures of the toy engine. See `relay.store.Erasures`."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from relay.api import User
from relay.store import (
    NOBODY,
    ConnectorAnswer,
    Counts,
    Erasure,
    FailingErasures,
    Parked,
    Wanted,
    make_digests,
    merge_users,
)

if TYPE_CHECKING:
    from tests.toy_store.state import ToyBooks, ToyTables

T = TypeVar("T")


class Transaction(Protocol):
    """Runs work on the tables of a partition, all or nothing."""

    def __call__(self, work: "Callable[[ToyTables], T]", /) -> T: ...


class ToyErasures:
    """The erasures of one partition."""

    def __init__(self, run: Transaction, others: "Callable[[], list[ToyBooks]]") -> None:
        self._run, self._others = run, others

    def _change(self, change: Callable[[Erasure], Erasure], numbers: Collection[int] | None = None) -> None:
        """Change the open erasures, or those with these numbers."""

        def write(now: "ToyTables") -> None:
            for number, one in now.erasures.items():
                if number in numbers if numbers is not None else not one.done:
                    now.erasures[number] = change(one)

        self._run(write)

    async def read_watch_position(self) -> int | None:
        return self._run(lambda now: now.watched)

    async def save_watch(self, position: int, asked: Sequence[Erasure], identities: Sequence[tuple[str, str]]) -> None:
        def write(now: "ToyTables") -> None:
            now.watched = position
            now.identities |= {*identities}
            for one in asked:
                add_erasure(now, one)

        self._run(write)

    async def read_open(self) -> list[Erasure]:
        return self._run(lambda now: [one for one in reversed(now.erasures.values()) if not one.done])

    async def read_at_connectors(self) -> list[Erasure]:
        return [one for one in await self.read_open() if one.compacted and one.user != User()]

    async def correct_asked(self, now: float, latest: float) -> None:
        self._change(lambda one: replace(one, asked=now) if one.asked > latest else one)

    async def find_external_ids(self, user_id: str | None) -> set[str]:
        return self._run(lambda now: {external for user, external in now.identities if user == user_id})

    async def find_parked_ids(self, wanted: Wanted) -> dict[int, User]:
        return self._run(lambda now: wanted.find_more_ids(one.body for one in now.parked.values()))

    async def save_found_ids(self, found: Mapping[int, User]) -> list[Erasure]:
        def write(now: "ToyTables") -> list[Erasure]:
            for number in found.keys() & now.erasures.keys():
                if (one := now.erasures[number]).compacted is None:
                    now.erasures[number] = _add_ids(one, found[number])
            return [now.erasures[number] for number in found if now.erasures[number].compacted is None]

        return self._run(write)

    async def share(self, erasures: Sequence[Erasure]) -> None:
        for books in self._others():

            def write(now: "ToyTables") -> None:
                for one in erasures:
                    known = now.erasures.get(one.number)
                    if known is None:
                        add_erasure(now, replace(one, answers=(), compacted=None, done=None))
                    elif not {*one.digests} <= {*known.digests}:
                        now.erasures[one.number] = _add_ids(replace(known, compacted=None, done=None), one.user)

            books.change(write)

    async def add_counts(self, counts: Mapping[str, Mapping[int, int]], until: int) -> None:
        def write(now: "ToyTables") -> None:
            for number in {number for by_number in counts.values() for number in by_number}:
                one = now.erasures[number]
                _count(now, number, {name: by_number.get(number, 0) for name, by_number in counts.items()})
                now.erasures[number] = replace(now.erasures[number], counted=max(one.counted, until))

        self._run(write)

    async def erase_users(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> Counts:
        def find(one: Parked) -> frozenset[int]:
            if one.connector is None:
                return wanted.find_numbers(one.body) | wanted.find_named(one.body.decode(errors="replace"))
            return wanted.find_numbers(one.body) | offsets.get(one.offset or 0, NOBODY) | wanted.find_by_key(one.key)

        def write(now: "ToyTables") -> Counts:
            mine = [one for one in now.parked.values() if one.connector == connector]
            removed = [one for one in mine if find(one)]
            for one in removed:
                del now.parked[one.number]
                for number in find(one):
                    _count(now, number, {"parked" if connector else "unreadable": 1})
            if connector is None or connector not in now.lanes:
                return Counts()
            lane = now.lanes[connector]
            events = sum(one.replay is None and lane.cursor.is_settled(one.offset or 0) for one in removed)
            lane.cursor.counts.parked -= events
            lane.cursor.counts.erased += events
            return Counts(parked=-events, erased=events)

        return self._run(write)

    async def find_removed_connectors(self, running: Sequence[str]) -> list[str]:
        def read(now: "ToyTables") -> list[str]:
            return sorted({one.connector for one in now.parked.values() if one.connector} - {*running})

        return self._run(read)

    async def overwrite_deleted(self) -> None:
        pass

    async def save_problem(self, numbers: Collection[int], problem: str) -> None:
        self._change(lambda one: replace(one, problem=problem), numbers)

    async def mark_erased(self, erasures: Sequence[Erasure]) -> None:
        before = {one.number: one for one in erasures}

        def change(one: Erasure) -> Erasure:
            is_same = [*one.digests] == [*before[one.number].digests]
            return replace(one, compacted=time.time(), problem=None) if is_same else replace(one, counted=0)

        self._change(change, before)

    async def find_held_elsewhere(self, connector: str, numbers: Collection[int]) -> dict[int, bool]:
        held: dict[int, bool] = {}
        for books in self._others() if numbers else ():
            for one in books.tables.erasures.values() if books.is_in_use else ():
                if one.number in numbers and not one.done and (one.compacted is None or one.lacks(connector)):
                    held[one.number] = held.get(one.number, False) or one.failed_at(connector)
        return held

    async def save_answers(self, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]) -> None:
        before = {one.number: one for one in asked if one.number in answers}

        def change(one: Erasure) -> Erasure:
            if one.compacted != before[one.number].compacted or [*one.digests] != [*before[one.number].digests]:
                return one
            answer = replace(answers[one.number], at=time.time())
            return replace(one, answers=[*(each for each in one.answers if each.connector != answer.connector), answer])

        self._change(change, before)

    async def find_failing_at_connectors(self) -> list[FailingErasures]:
        return find_failing(await self.read_open())

    async def forget_failed(self) -> None:
        self._change(lambda one: replace(one, answers=[each for each in one.answers if each.outcome != "failed"]))

    async def forget_ids(self, numbers: Collection[int]) -> None:
        self._change(lambda one: replace(one, user=User()) if one.compacted else one, numbers)

    async def mark_done(self, numbers: Collection[int]) -> None:
        self._change(lambda one: replace(one, done=time.time()) if one.compacted else one, numbers)


def add_erasure(now: "ToyTables", one: Erasure) -> int:
    """Add an erasure; return its number."""
    number = one.number or max(now.erasures, default=0) + 1
    now.erasures[number] = replace(one, number=number, digests=sorted({*one.digests, *make_digests(one.user)}))
    return number


def find_failing(erasures: Sequence[Erasure]) -> list[FailingErasures]:
    """Return the open erasures that fail at connectors."""
    failed: dict[str, list[tuple[float, str]]] = {}
    for one in erasures:
        for answer in one.answers:
            if answer.outcome == "failed" and not one.done:
                failed.setdefault(answer.connector, []).append((one.compacted or one.asked, answer.reason))
    return [FailingErasures(name, len(its), *min(its)) for name, its in sorted(failed.items())]


def _add_ids(one: Erasure, user: User) -> Erasure:
    known = merge_users(one.user, user)
    return replace(one, user=known, digests=sorted({*one.digests, *make_digests(known)}))


def _count(now: "ToyTables", number: int, counts: Mapping[str, int]) -> None:
    one = now.erasures[number]
    now.erasures[number] = replace(one, **{name: getattr(one, name) + count for name, count in counts.items()})
