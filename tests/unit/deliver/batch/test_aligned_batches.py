"""Batches that end at multiples of a time, and batches of one group each: the same whatever the load."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.api import Batch, BatchSettings, Block, Kind
from relay.catalogue import Selection
from relay.deliver.batch.groups import divide_by_group
from relay.deliver.batch.reader import BatchReader
from relay.journal.journal import Journal
from relay.route import Route
from relay.store import Cursor
from relay.store.block import make_block
from relay.store.log import JournalLimits
from relay.testing import make_event

KIND, OTHER = Kind("s", "mine"), Kind("s", "other")
ALIGN_S = 0.25
HOUR_US = 3600 * 10**6


def batches_of(journal: Journal, limits: BatchSettings, until: int = 1 << 60, **collected: Any) -> BatchReader:
    return BatchReader(journal, Cursor(0, 0), Route(Selection(["mine"])), limits, until, **collected)


async def collect(collector: BatchReader, found: list[Batch], events: int) -> None:
    """Take what the collector gives until there are so many events."""
    while sum(map(len, found)) < events and (span := await collector.read_next()) is not None:
        if span.batch is not None:
            found.append(span.batch)
    collector.close()


@pytest.mark.parametrize("most", [5, 1000])
async def test_aligned_batches_are_the_same_live_and_in_a_replay(tmp_path: Path, most: int) -> None:
    """Events come at odd times; the last batch ends though none comes after it."""
    journal, chance = Journal(tmp_path, JournalLimits(1 << 30, 3600), 1 << 20), random.Random(3)
    limits = BatchSettings.model_validate({"align": f"{ALIGN_S}s", "events": most})
    live, later = list[Batch](), list[Batch]()
    sizes = [chance.randint(1, 4) for _ in range(25)]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(collect(batches_of(journal, limits), live, sum(sizes)))
        for size in sizes:
            await journal.append([KIND] * size, [make_event() for _ in range(size)])
            await asyncio.sleep(chance.choice([0, 0.02, 0.1, 0.3]))
            await journal.append([OTHER], [make_event()])
    async with asyncio.timeout(60):
        await collect(batches_of(journal, limits, journal.head), later, sum(sizes))
    await journal.close()
    assert [batch.id for batch in live] == [batch.id for batch in later]
    slots = [{block.received // ALIGN_S for block in batch.blocks} for batch in live]
    assert all(len(slot) == 1 for slot in slots)
    assert max(map(len, live)) <= most
    if most > 100:
        assert len({*map(frozenset, slots)}) == len(slots) > 2


async def test_an_aligned_batch_that_is_full_or_old_ends_before(tmp_path: Path) -> None:
    journal, found = Journal(tmp_path, JournalLimits(1 << 30, 3600), 1 << 20), list[Batch]()
    await journal.append([KIND] * 7, [make_event() for _ in range(7)])
    limits = BatchSettings.model_construct(events=5, size=1 << 20, age=0.01, align=3600.0, group_by=())
    async with asyncio.timeout(60):
        await collect(batches_of(journal, limits), found, 7)
    await journal.close()
    assert [batch.offsets() for batch in found] == [[0, 1, 2, 3, 4], [5, 6]]


async def test_an_aligned_batch_ends_with_its_time_however_old_it_might_grow(tmp_path: Path) -> None:
    journal, found = Journal(tmp_path, JournalLimits(1 << 30, 3600), 1 << 20), list[Batch]()
    await journal.append([KIND], [make_event()])
    limits = BatchSettings.model_validate({"align": "50ms", "age": "1h"})
    async with asyncio.timeout(60):
        await collect(batches_of(journal, limits), found, 1)
    await journal.close()
    assert len(found) == 1


def test_an_aligned_batch_has_the_age_of_its_time_unless_set_longer() -> None:
    assert BatchSettings.model_validate({"align": "5m"}).age == 300
    assert BatchSettings.model_validate({"align": "5m", "age": "1h"}).age == 3600
    assert BatchSettings.model_validate({"align": "1ms"}).age == BatchSettings().age == 0.003
    for age in ("1m", "0s"):
        with pytest.raises(ValidationError, match="must be at least align"):
            BatchSettings.model_validate({"align": "5m", "age": age})


@pytest.mark.parametrize(
    ("written", "found"),
    [("type", ("type",)), (["hour", "source"], ("hour", "source")), ([], ()), ("day", None), (["type", "no"], None)],
)
def test_groups_are_written_as_a_name_or_a_list(written: object, found: object) -> None:
    if found is None:
        with pytest.raises(ValidationError):
            BatchSettings.model_validate({"group_by": written})
    else:
        assert BatchSettings.model_validate({"group_by": written}).group_by == found


EVENTS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y", "z"])), min_size=1, max_size=12)


def blocks_of(parts: Sequence[Sequence[tuple[str, str]]], hours: Sequence[int], at_once: int) -> list[Block]:
    """Blocks of these events, each part with its hour, in pieces of so many events."""
    made, offset = list[Block](), 0
    for part, hour in zip(parts, hours, strict=False):
        kinds = {names: Kind(*names) for names in part}
        block = make_block(offset, hour * HOUR_US + 7, [kinds[names] for names in part], [b"{}"] * len(part))
        made += [block.slice(at, at + at_once) for at in range(0, len(part), at_once)]
        offset += len(part)
    return made


@given(
    parts=st.lists(EVENTS, min_size=1, max_size=5),
    hours=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    by=st.lists(st.sampled_from(["type", "source", "hour"]), max_size=3),
    at_once=st.integers(1, 12),
)
def test_a_batch_is_divided_into_its_groups_however_it_lies_in_blocks(
    parts: list[list[tuple[str, str]]], hours: list[int], by: list[str], at_once: int
) -> None:
    whole = Batch(blocks_of(parts, hours, at_once))
    groups = divide_by_group(whole, by)
    assert sorted(offset for group in groups for offset in group.offsets()) == whole.offsets()
    assert all(group.offsets() == sorted(group.offsets()) for group in groups)
    seen = [
        {
            ("type" in by and event.type, "source" in by and event.source, "hour" in by and event.received // 3600)
            for event in group
        }
        for group in groups
    ]
    assert all(len(group) == 1 for group in seen)
    assert len({*map(frozenset, seen)}) == len(seen)
    assert [group.id for group in groups] == [
        group.id for group in divide_by_group(Batch(blocks_of(parts, hours, 12)), by)
    ]
