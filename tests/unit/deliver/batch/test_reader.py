"""What it costs to collect a block in which each event has a type of its own: counted, not timed."""

import asyncio
from pathlib import Path

import pytest

from relay.api import BatchSettings, Event, Filter, Kind
from relay.catalogue import Selection
from relay.deliver.batch.reader import FILTERED_AT_ONCE, SELECTED_AT_ONCE, BatchReader
from relay.journal.journal import Journal
from relay.route import Route
from relay.store import Cursor
from relay.store.log import JournalLimits

TYPES = 2 * SELECTED_AT_ONCE + 1


class Work:
    """Counts the looks at kinds and events, and how many there are at most before others have their turn."""

    def __init__(self) -> None:
        self.looks = self.since = self.at_once = 0

    def look(self) -> None:
        self.looks += 1
        self.since += 1
        self.at_once = max(self.at_once, self.since)

    async def take_turns(self) -> None:
        while True:
            self.since = 0
            await asyncio.sleep(0)


class Looking(Selection):
    def __init__(self, work: Work, entry: str) -> None:
        super().__init__([entry])
        self._work = work

    def wants(self, type: str) -> bool:
        self._work.look()
        return super().wants(type)


class Kept(Filter, type="kept"):
    """Keeps all events or none."""

    keeps: bool
    work: Work

    def apply(self, event: Event) -> Event | None:
        self.work.look()
        return event if self.keeps else None


def kept(work: Work, *, keeps: bool) -> Kept:
    step = Kept("kept", Kept.Settings.model_validate({"type": "kept"}))
    step.keeps, step.work = keeps, work
    return step


@pytest.mark.parametrize("settled", [[], [(n, n + 1) for n in range(1, TYPES, 64)]], ids=["new", "settled in part"])
@pytest.mark.parametrize(("keeps", "entry"), [(True, "*"), (False, "*"), (None, "*"), (None, "t1*"), (None, "no")])
async def test_many_types_in_a_block_cost_one_check_each_and_block_nobody(
    tmp_path: Path, keeps: bool | None, entry: str, settled: list[tuple[int, int]]
) -> None:
    """Siblings: filters that keep and that drop, none at all, selections, what a cursor has settled already, waiting
    readers, parts of a block in connectors and taps."""
    work, journal = Work(), Journal(tmp_path, JournalLimits(1 << 30, 3600), 64 << 20)
    route = Route(Looking(work, entry), [] if keeps is None else [kept(work, keeps=keeps)])
    collector = BatchReader(journal, Cursor(0, 0, ahead=settled), route, BatchSettings(), TYPES)
    await journal.append([Kind("s", f"t{n}") for n in range(TYPES)], [b"{}"] * TYPES)
    found = 0
    async with asyncio.TaskGroup() as group:
        turns = group.create_task(work.take_turns(), name="turns")
        while (span := await collector.read_next()) is not None:
            found += len(span)
            assert span.batch is None or all(len(block.kinds) <= len(block) for block in span.batch.blocks)
        turns.cancel()
    collector.close()
    await journal.close()
    assert found == TYPES - len(settled)
    assert work.looks <= 3 * TYPES  # two each, and some once more where a busy machine cuts a piece short
    assert work.at_once <= (2 * FILTERED_AT_ONCE if keeps is not None else SELECTED_AT_ONCE)


async def test_a_short_age_counts_from_the_batch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, loop = [1000.0], asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: now[0])  # a wait ends only if the test says so
    journal = Journal(tmp_path, JournalLimits(1 << 30, 3600), 64 << 20)
    reader = BatchReader(journal, Cursor(0, 0), Route(Selection(["*"]), []), BatchSettings(age="10ms"), 5)

    async def append(number: int) -> None:
        await journal.append([Kind("s", "t")] * number, [b"{}"] * number)

    await append(1)
    assert len(await reader.read_next() or ()) == 1

    await append(1)
    second = loop.create_task(reader.read_next(), name="second")
    await append(1)
    assert not second.done()
    now[0] += 0.01
    assert len(await second or ()) == 2

    now[0] += 0.01
    await append(2)
    assert len(await reader.read_next() or ()) == 2
    reader.close()
    await journal.close()
