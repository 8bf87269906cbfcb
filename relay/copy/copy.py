"""Copies a store: the bulk while relay works, and the rest in a last pass without relay.

How it fails and recovers:

- Each part of a log is copied in one step, with its version. A copy that was broken off goes on with the parts that
  are missing. A part that was changed since, by new events or an erasure, is copied again.
- The target lets no relay start before all of it is there, and both sides have the same counts and audits.
- Then the source lets no relay start any more, and only after that the target does. If the last pass is broken off
  between the two, neither does, and the same last pass ends it.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from msgspec.structs import replace

from relay.copy.contract import FIRST_TABLES, TABLES, LogPart, Side, Table
from relay.inspect import Audit, audit, merge_audits
from relay.journal import StoredRecord
from relay.store import Unavailable
from relay.words import format_time

ELSEWHERE: Final = "copy to where nothing is"
Told = Callable[[int, int, int], object]
"""Called after each part: partition, finished parts, all parts."""


@dataclass(slots=True)
class CopiedLog:
    """What a pass has copied of the log of one partition."""

    partition: int
    parts: int = 0
    events: int = 0
    there: int = 0
    """Parts that were there."""
    removed: int = 0
    """Parts that have left the source since an earlier pass."""


@dataclass(frozen=True, slots=True)
class ComparedCount:
    """A count of both sides."""

    partition: int
    what: str
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The result of a last pass."""

    logs: Sequence[CopiedLog]
    counts: Sequence[ComparedCount]
    audits: Mapping[int, tuple[Audit, Audit]] = field(default_factory=dict)
    """The audits of source and target, by partition."""

    @property
    def problems(self) -> list[str]:
        """A sentence for each difference."""
        return [*self._find_differences()]

    def _find_differences(self) -> Iterator[str]:
        for one in self.counts:
            if one.source != one.target:
                yield f"partition {one.partition}: {one.what}: {one.source:,} there, {one.target:,} here"
        for partition, both in self.audits.items():
            there, here = map(_list_findings, both)
            if names := [name for name in there if there[name] != here[name]]:
                yield f"partition {partition}: the audits differ: {', '.join(names)}"
        whole = [merge_audits({one: both[side] for one, both in self.audits.items()}) for side in (0, 1)]
        if whole[0].sources != whole[1].sources:
            yield "the counts of sources differ"


def _list_findings(found: Audit) -> Mapping[str, object]:
    """Return what the audits of both sides must have in common. Each engine counts bytes of parked events its way."""
    parked = [replace(total, bytes=0) for total in found.parked]
    names = ("connectors", "oldest", "head", "balances")
    return {name: getattr(found, name) for name in names} | {"parked": parked}


def copy_logs(source: Side, target: Side, told: Told) -> list[CopiedLog]:
    """Copy what the target lacks of all logs, whether relay works with the source or not. Raises Unavailable."""
    _prepare(source, target)
    return [_copy_log(source, target, partition, told) for partition in source.list_partitions()]


def count_rest(source: Side) -> Mapping[str, int]:
    """Count the rows that only a last pass copies, by table. Raises Unavailable."""
    found = {
        (partition, table): source.count_rows(partition, table)
        for partition in source.list_partitions()
        for table in _list_tables(partition)
    }
    return {name: sum(rows for (_, table), rows in found.items() if table == name) for name in [*TABLES, *FIRST_TABLES]}


def copy_all(source: Side, target: Side, told: Told, kept_for: Collection[str] | None = None) -> CopyResult:
    """Copy everything, and compare both sides. Without any difference relays start with the target from now on.

    `kept_for`: as for `audit`. Raises Unavailable, also if a relay works with the source.
    """
    with source.hold():
        logs = copy_logs(source, target, told)
        partitions = source.list_partitions()
        for partition in partitions:
            tables = (_read_table(source, target, partition, table) for table in _list_tables(partition))
            target.put_state(partition, tables, source.read_numbers(partition))
        audits = {
            one: (audit(source.store.view(one), kept_for), audit(target.store.view(one), kept_for))
            for one in partitions
        }
        result = CopyResult(logs, [*_count(source, target)], audits)
        if not result.problems:
            source.bar(
                f"its journal was copied to {target.place} by the last pass at {format_time(time.time())}, and relay"
                " goes on there: start relay, and give commands,"
                " with the configuration of that place; to come back with everything: relay journal copy --to"
                f" {source.name} --last; to go on here as it is, and send events twice: {source.release}"
            )
            target.unbar()
    return result


def _prepare(source: Side, target: Side) -> None:
    """Make the target ready for the source, if it holds nothing of another origin. Raises Unavailable."""
    identities = {partition: source.read_identity(partition) for partition in source.list_partitions()}
    if not all(identities.values()) or not identities:
        raise Unavailable(f"{source.place} holds no journal")
    is_barred = bool(target.read_bar())
    if not is_barred and (why := source.read_bar()):
        raise Unavailable(f"no relay works with {source.place}: {why}")
    for partition in target.list_partitions():
        if not is_barred:
            raise Unavailable(f"{target.place} holds a journal with which relay works: {ELSEWHERE}")
        if target.read_identity(partition) != identities.get(partition):
            raise Unavailable(f"{target.place} holds another journal, of partition {partition}: {ELSEWHERE}")
    room, needed = target.count_room(), max(identities) + 1
    if room is not None and needed > room:
        advice = f"set journal.partitions = {needed}, and run relay journal init again"
        raise Unavailable(f"{source.place} has {needed} workers, and {target.place} has {room} partitions: {advice}")
    target.bar(f"the copy of {source.place} is not complete: relay journal copy with --last completes it")
    for partition, identity in identities.items():
        target.adopt(partition, identity)


def _copy_log(source: Side, target: Side, partition: int, told: Told) -> CopiedLog:
    done, there, parts = CopiedLog(partition), target.list_copied(partition), source.list_parts(partition)
    for base in {*there} - {part.base for part in parts}:
        target.remove_part(partition, base)
        done.removed += 1
    for number, part in enumerate(parts, 1):
        if part is not parts[-1] and there.get(part.base) == part.version:  # the newest may have grown unnoticed
            done.there += 1
        elif events := _copy_part(source, target, partition, part):
            done.parts += 1
            done.events += events
        told(partition, number, len(parts))
    return done


def _copy_part(source: Side, target: Side, partition: int, part: LogPart) -> int:
    """Copy a part, unless it holds no record; return the number of its events."""
    events = 0

    def count(records: Iterator[StoredRecord]) -> Iterator[StoredRecord]:
        nonlocal events
        for record in records:
            events += record.events
            yield record

    records = source.read_part(partition, part.base)
    if first := next(records, None):
        target.put_part(partition, part, count(chain([first], records)))
    return events


def _read_table(source: Side, target: Side, partition: int, name: str) -> Table:
    known = target.list_columns(name)
    columns = [one for one in source.list_columns(name) if one in known]
    return Table(name, columns, source.read_rows(partition, name, columns))


def _list_tables(partition: int) -> Sequence[str]:
    return TABLES if partition else (*TABLES, *FIRST_TABLES)


def _count(source: Side, target: Side) -> Iterator[ComparedCount]:
    for partition in source.list_partitions():
        for table in _list_tables(partition):
            yield ComparedCount(partition, table, *(side.count_rows(partition, table) for side in (source, target)))
