"""The erasures of the toy engine."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from relay.api import User
from relay.store import (
    LISTS,
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

Offsets = Mapping[int, frozenset[int]]


class ToyErasures:
    """Erasures in memory. See `relay.store.Erasures`."""

    def __init__(self, change: Callable[..., Any], others: "Callable[[], list[ToyBooks]]") -> None:
        """`change` runs work on the tables of a partition as one transaction. `others` returns the books of all other
        partitions."""
        self._change, self._others = change, others

    def _update(self, which: Callable[[Erasure], object], **fields: Any) -> None:
        """Change fields of the erasures for which `which` is true."""

        def write(now: "ToyTables") -> None:
            now.erasures |= {number: replace(one, **fields) for number, one in now.erasures.items() if which(one)}

        self._change(write)

    async def read_watch_position(self) -> int | None:
        found: int | None = self._change(lambda now: now.watched)
        return found

    async def save_watch(self, position: int, asked: Sequence[Erasure], identities: Sequence[tuple[str, str]]) -> None:
        last = max((number for books in self._others() for number in books.tables.erasures), default=0)

        def write(now: "ToyTables") -> None:
            now.watched = position
            now.identities |= {*identities}
            for one in asked:
                add_erasure(now, one, last)

        self._change(write)

    async def read_open(self) -> list[Erasure]:
        return [one for one in self._change(_list_newest) if one.done is None]

    async def read_at_connectors(self) -> list[Erasure]:
        return [one for one in await self.read_open() if one.compacted and one.user != User()]

    async def correct_asked(self, now: float, latest: float) -> None:
        self._update(lambda one: one.done is None and one.asked > latest, asked=now)

    async def find_external_ids(self, user_id: str | None) -> set[str]:
        return {external for user, external in self._change(lambda now: now.identities) if user == user_id}

    async def find_parked_ids(self, wanted: Wanted) -> dict[int, User]:
        return wanted.find_more_ids(one.body for one in self._change(lambda now: now.parked).values())

    async def save_found_ids(self, found: Mapping[int, User]) -> list[Erasure]:
        def write(now: "ToyTables") -> list[Erasure]:
            for number, user in found.items():
                if (one := now.erasures.get(number)) is not None and not one.compacted:
                    now.erasures[number] = _add_ids(one, user)
            return [one for one in _list_newest(now) if one.number in found and not one.compacted]

        saved: list[Erasure] = self._change(write)
        return saved

    async def share(self, erasures: Sequence[Erasure]) -> None:
        for books in self._others():
            books.change(lambda now: take_over(now, erasures))

    async def add_counts(self, counts: Mapping[str, Mapping[int, int]], until: int) -> None:
        def write(now: "ToyTables") -> None:
            _count(now, counts)
            for number in {number for by_number in counts.values() for number in by_number}:
                one = now.erasures[number]
                now.erasures[number] = replace(one, counted=max(one.counted, until))

        self._change(write)

    async def erase_users(self, connector: str | None, wanted: Wanted, offsets: Offsets) -> Counts:
        found: Counts = self._change(lambda now: _erase_users(now, connector, wanted, offsets))
        return found

    async def find_removed_connectors(self, running: Sequence[str]) -> list[str]:
        parked, attempts = self._change(lambda now: (now.parked, now.attempts))
        known = {one.connector for one in (*parked.values(), *attempts.values())}
        return sorted(known - {None, *running})

    async def overwrite_deleted(self) -> None:
        pass

    async def save_problem(self, numbers: Collection[int], problem: str) -> None:
        self._update(lambda one: one.number in numbers, compacted=None, problem=problem)

    async def mark_erased(self, erasures: Sequence[Erasure]) -> None:
        def write(now: "ToyTables") -> None:
            for one in erasures:
                present = now.erasures[one.number]
                if _is_same(one, present):
                    now.erasures[one.number] = replace(present, compacted=time.time(), problem=None)
                else:
                    now.erasures[one.number] = replace(present, counted=0)

        self._change(write)

    async def find_held_elsewhere(self, connector: str, numbers: Collection[int]) -> dict[int, bool]:
        held: dict[int, bool] = {}
        for books in self._others():
            for number, one in books.tables.erasures.items():
                is_open = number in numbers and not one.done
                if is_open and (one.compacted is None or (books.is_in_use and one.lacks(connector))):
                    held[number] = held.get(number, False) or one.failed_at(connector)
        return held

    async def save_answers(self, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]) -> None:
        def write(now: "ToyTables") -> None:
            for one in asked:
                present, answer = now.erasures.get(one.number), answers.get(one.number)
                if present is not None and answer is not None and _is_same(one, present):
                    before = {each.connector: each for each in present.answers}
                    tries = before[answer.connector].attempts + 1 if answer.connector in before else 1
                    before[answer.connector] = replace(answer, attempts=tries, at=time.time())
                    now.erasures[one.number] = replace(present, answers=[before[name] for name in sorted(before)])

        self._change(write)

    async def find_failing_at_connectors(self) -> list[FailingErasures]:
        return find_failing(await self.read_open())

    async def forget_failed(self) -> None:
        def write(now: "ToyTables") -> None:
            for number, one in now.erasures.items():
                answers = [each for each in one.answers if each.outcome != "failed"]
                now.erasures[number] = replace(one, answers=answers)

        self._change(write)

    async def forget_ids(self, numbers: Collection[int]) -> None:
        def write(now: "ToyTables") -> None:
            for number in numbers:
                if (one := now.erasures[number]).compacted:
                    gone = {one.user.user_id, *one.user.external_ids}
                    now.identities = {pair for pair in now.identities if not gone & {*pair}}
                    now.erasures[number] = replace(one, user=User())

        self._change(write)

    async def mark_done(self, numbers: Collection[int]) -> None:
        self._update(lambda one: one.number in numbers and one.compacted, done=time.time())


def add_erasure(now: "ToyTables", one: Erasure, last: int = 0) -> int:
    """Add an erasure; return its number. `last`: the last number in the other partitions."""
    number = one.number or max(last, *now.erasures, 0) + 1
    fresh = Erasure(asked=one.asked, user=User(), type=one.type, source=one.source, offset=one.offset, number=number)
    now.erasures[number] = _add_ids(replace(fresh, asked_by=one.asked_by, digests=one.digests), one.user)
    return number


def find_failing(erasures: Iterable[Erasure]) -> list[FailingErasures]:
    """Return the open erasures that fail at connectors."""
    failing: dict[str, list[tuple[float, str]]] = {}
    for one in erasures:
        for each in one.answers:
            if each.outcome == "failed" and not one.done:
                failing.setdefault(each.connector, []).append((one.compacted or one.asked, each.reason))
    return [FailingErasures(name, len(found), *min(found)) for name, found in sorted(failing.items())]


def _list_newest(now: "ToyTables") -> list[Erasure]:
    return [now.erasures[number] for number in sorted(now.erasures, reverse=True)]


def _add_ids(one: Erasure, user: User) -> Erasure:
    known = merge_users(one.user, user)
    return replace(one, user=known, digests=sorted({*one.digests, *make_digests(known)}))


def _is_same(before: Erasure, present: Erasure) -> bool:
    """Return whether an erasure is open, has the same ids as before, and has not begun again."""
    same = [*before.digests] == [*present.digests] and before.compacted == present.compacted
    return same and present.done is None


def take_over(now: "ToyTables", erasures: Iterable[Erasure]) -> None:
    """Erase these users, too. An erasure with new ids begins again."""
    for one in erasures:
        present = now.erasures.get(one.number)
        if present is None:
            add_erasure(now, one)
        elif not {*one.digests} <= {*present.digests}:
            answers = [each for each in present.answers if each.outcome not in ("done", "skipped")]
            again = replace(present, compacted=None, done=None, counted=0, answers=answers)
            now.erasures[one.number] = _add_ids(again, one.user)


def _count(now: "ToyTables", counts: Mapping[str, Mapping[int, int]]) -> None:
    for name, by_number in counts.items():
        for number, count in by_number.items():
            if (one := now.erasures.get(number)) is not None:
                now.erasures[number] = replace(one, **{name: getattr(one, name) + count})


def _erase_users(now: "ToyTables", connector: str | None, wanted: Wanted, offsets: Offsets) -> Counts:
    """Erase users from parked events and attempts; return the change of the counts of the connector's cursor."""
    counts = {"parked": Counter[int](), "unreadable": Counter[int](), "attempts": Counter[int]()}
    emptied, left = set[int | None](), set[int | None]()
    for number, one in [*now.parked.items()]:
        if one.connector != connector:
            continue
        if whose := _find_users(one, wanted, offsets):
            counts["parked" if connector else "unreadable"].update(whose)
            del now.parked[number]
            emptied |= {one.offset} if one.replay is None else set()
        else:
            left |= {one.offset} if one.replay is None else set()
            body = wanted.remove_users(one.type, one.body)[0] if one.type in LISTS else one.body
            reason, answer = wanted.hide(one.reason), wanted.hide(one.answer)
            now.parked[number] = replace(one, body=body, reason=reason, answer=answer)
    for key, made in now.attempts.items():
        if made.connector == connector and made.answer:
            about = [whose for at, whose in offsets.items() if any(start <= at < stop for start, stop in made.ranges)]
            if whose := wanted.find_named(made.answer).union(*about):
                counts["attempts"].update(whose)
                now.attempts[key] = replace(made, answer="")
    _count(now, counts)
    lane = now.lanes.get(connector or "")
    if lane is None:
        return Counts()
    gone = [at for at in emptied - left if at is not None and lane.cursor.start <= at and lane.cursor.is_settled(at)]
    change = Counts(parked=-len(gone), erased=len(gone))
    lane.cursor.counts += change
    return change


def _find_users(one: Parked, wanted: Wanted, offsets: Offsets) -> frozenset[int]:
    """Find the users of a parked event."""
    whose = wanted.find_numbers(one.body)
    if one.connector is None:
        return whose | wanted.find_named(one.body.decode(errors="replace"))
    return whose | offsets.get(-1 if one.offset is None else one.offset, NOBODY) | wanted.find_by_key(one.key)
