"""A damaged journal is mended: what is whole stays at its place, what is not is named, and everybody goes on."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Kind
from relay.journal.journal import Journal
from relay.journal.outside.inspected import inspect_all
from relay.journal.outside.repair import plan_repair, repair
from relay.journal.outside.view import JournalView
from relay.store.log import JournalLimits
from relay.testing import make_event

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(1 << 30, 3600)


async def fill(folder: Path, starts: int = 3, groups: int = 6) -> list[bytes]:
    """A journal of several segments (each start makes one) of several records."""
    sent: list[bytes] = []
    for _ in range(starts):
        journal = Journal(folder, LIMITS, 1 << 20)
        for size in range(1, groups + 1):
            bodies = [make_event(n=len(sent) + n) for n in range(size)]
            await journal.append([KIND] * size, bodies)
            sent += bodies
        await journal.close()
    return sent


def read(folder: Path) -> dict[int, bytes]:
    """All that can be read."""
    return {event.offset: event.body for _, block in JournalView(folder).read() for event in block.events()}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x5A
    path.write_bytes(data)


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


async def goes_on(folder: Path, head: int) -> None:
    """The journal opens, and a reader gets to an event that is appended now."""
    journal = Journal(folder, LIMITS, 0)
    body = make_event(fresh=True)
    assert await journal.append([KIND], [body]) == head
    reader, offset, found = journal.open_reader(), 0, list[bytes]()
    async with asyncio.timeout(30):
        while offset < journal.head:
            block = (await reader.read(offset))[-1]
            offset, found = block.offsets[-1] + 1, block.bodies()
    assert found[-1] == body
    reader.close()
    await journal.close()


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("at", [3, 40, 120, 700])
async def test_damage_anywhere_costs_the_records_it_lies_in_and_nothing_else(
    tmp_path: Path, segment: int, at: int
) -> None:
    sent = await fill(tmp_path)
    flip(logs(tmp_path)[segment], at)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in logs(tmp_path)}
    (planned,) = plan_repair(tmp_path, len(sent))
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in logs(tmp_path)}
    (done,) = repair(tmp_path, len(sent))
    assert (done.lost, done.saved) == (planned.lost, planned.saved)
    assert done.saved + done.lost_events == done.segment.limit - done.segment.base
    lost = {offset for start, stop in done.lost for offset in range(start, stop)}
    assert 0 < len(lost) <= (21 if at < 20 else 3)
    assert read(tmp_path) == {offset: body for offset, body in enumerate(sent) if offset not in lost}
    assert [segment.is_whole for segment in inspect_all(tmp_path, len(sent))] == [True] * 3
    assert plan_repair(tmp_path, len(sent)) == []
    assert len([*tmp_path.glob("*.damaged")]) == 1
    await goes_on(tmp_path, len(sent))


async def test_a_segment_that_is_missing_is_named_as_lost(tmp_path: Path) -> None:
    sent = await fill(tmp_path)
    logs(tmp_path)[1].unlink()
    (done,) = repair(tmp_path, len(sent))
    assert done.lost == [(21, 42)]
    assert read(tmp_path).keys() == {*range(21), *range(42, 63)}
    assert [segment.lost for segment in inspect_all(tmp_path)] == [21, 0]
    await goes_on(tmp_path, len(sent))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_repairs_belongs_to_whom_the_segment_belonged(tmp_path: Path) -> None:
    await fill(tmp_path)
    for path in logs(tmp_path):
        os.chown(path, 12345, 54321)
    flip(logs(tmp_path)[1], 120)
    assert repair(tmp_path, 0)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.glob("*.log*")} == {(12345, 54321)}


async def test_offsets_that_were_acknowledged_are_never_given_again(tmp_path: Path) -> None:
    sent = await fill(tmp_path)
    last = logs(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-10])
    assert repair(tmp_path, needed=0) == []
    (done,) = repair(tmp_path, needed=len(sent))
    assert done.lost == [(57, 63)]
    await goes_on(tmp_path, len(sent))


async def test_a_journal_that_a_relay_runs_with_is_planned_for_but_not_touched(tmp_path: Path) -> None:
    await fill(tmp_path)
    flip(logs(tmp_path)[0], 300)
    journal = Journal(tmp_path, LIMITS, 0)
    assert len(plan_repair(tmp_path, 0)) == 1
    with pytest.raises(OSError, match="in use by another relay"):
        repair(tmp_path, 0)
    await journal.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, asyncio.run(fill(folder))


@given(places=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, exclude_max=True)), min_size=1, max_size=6))
def test_whatever_is_damaged_no_wrong_byte_is_ever_read(
    whole: tuple[Path, Sequence[bytes]], tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, float]]
) -> None:
    folder, sent = tmp_path_factory.mktemp("damaged") / "journal", whole[1]
    shutil.copytree(whole[0], folder)
    for segment, share in places:
        path = logs(folder)[segment]
        flip(path, int(path.stat().st_size * share))
    good = read(folder)
    lost = {offset for one in repair(folder, len(sent)) for start, stop in one.lost for offset in range(start, stop)}
    saved = read(folder)
    assert saved == {offset: body for offset, body in enumerate(sent) if offset not in lost}
    assert good.items() <= saved.items()
    assert all(segment.is_whole for segment in inspect_all(folder, len(sent)))
    asyncio.run(goes_on(folder, len(sent)))
