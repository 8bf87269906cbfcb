"""What a bystander can tell of a journal, whole or damaged by hand."""

import os
from pathlib import Path

import pytest

from relay.api import Kind
from relay.journal.journal import Journal
from relay.journal.outside.inspected import Inspected, inspect_all
from relay.journal.outside.view import JournalView
from relay.journal.segment import PREFIX, make_path
from relay.state.database import StateDatabase
from relay.state.ledger import read_lane_ledgers
from relay.store import Counts, Cursor, find_acknowledged_head
from relay.store.log import JournalLimits

LIMITS = JournalLimits(max_size=64 << 20, retention=3600)
KIND = Kind("braze", "order")


def body(offset: int) -> bytes:
    return b'{"event_type":"order","id":"%d"}' % offset


async def fill(folder: Path, sizes: list[int]) -> None:
    """One segment for each number, one record for each event."""
    for size in sizes:
        journal = Journal(folder, LIMITS, 1 << 20)
        for _ in range(size):
            await journal.append([KIND], [body(journal.head)])
        await journal.close()


def flip(path: Path, text: bytes) -> None:
    data = path.read_bytes()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, text[:-1] + bytes([text[-1] ^ 1])))


def said(found: list[Inspected]) -> list[str]:
    return [str(segment) for segment in found]


def offsets(folder: Path, start: int = 0) -> list[int]:
    return [offset for _, block in JournalView(folder, 9).read(start) for offset in block.offsets]


async def test_a_whole_journal_is_good_and_read_from_any_offset(tmp_path: Path) -> None:
    await fill(tmp_path, [3, 4, 2])
    found = inspect_all(tmp_path, 9)
    assert said(found) == ["good"] * 3
    assert [(segment.base, segment.end) for segment in found] == [(0, 3), (3, 7), (7, 9)]
    assert [segment.used for segment in found] == [segment.path.stat().st_size for segment in found]
    assert all(segment.first is not None and segment.first <= segment.last for segment in found)
    assert offsets(tmp_path) == list(range(9))
    assert offsets(tmp_path, 5) == [5, 6, 7, 8]


async def test_a_removed_segment_is_a_gap(tmp_path: Path) -> None:
    await fill(tmp_path, [3, 4, 2])
    make_path(tmp_path, 3).unlink()
    found = inspect_all(tmp_path, 9)
    assert said(found) == ["gap from 3 to 7", "good"]
    assert [segment.is_whole for segment in found] == [False, True]


@pytest.mark.parametrize(("offset", "place"), [(1, 0), (5, 1), (8, 2)])
async def test_a_flipped_bit_is_damage_and_what_is_good_around_it_is_read(
    tmp_path: Path, offset: int, place: int
) -> None:
    await fill(tmp_path, [3, 4, 2])
    base = (0, 3, 7)[place]
    size = (make_path(tmp_path, base).stat().st_size - PREFIX.size) // (3, 4, 2)[place]
    flip(make_path(tmp_path, base), b'"id":"%d' % offset)
    expected = ["good"] * 3
    expected[place] = f"damaged at byte {PREFIX.size + (offset - base) * size} offset {offset}"
    assert said(inspect_all(tmp_path, 9)) == expected
    assert offsets(tmp_path) == [n for n in range(9) if n < offset or n >= (3, 7, 9)[place]]


async def test_a_torn_tail_is_good_as_long_as_nobody_was_told_that_it_is_there(tmp_path: Path) -> None:
    await fill(tmp_path, [3, 2])
    last = make_path(tmp_path, 3)
    os.truncate(last, last.stat().st_size - 1)
    (_, torn) = inspect_all(tmp_path, 4)
    assert (torn.condition, torn.end, torn.is_whole) == ("torn", 4, True)
    assert torn.used + torn.behind == last.stat().st_size
    (_, lost) = inspect_all(tmp_path, 5)
    assert (str(lost), lost.is_whole) == (f"damaged at byte {lost.used} offset 4", False)


async def test_a_file_that_does_not_begin_as_a_segment_is_damage(tmp_path: Path) -> None:
    await fill(tmp_path, [3, 2])
    data = make_path(tmp_path, 3).read_bytes()
    make_path(tmp_path, 3).write_bytes(b"x" + data[1:])
    assert said(inspect_all(tmp_path)) == ["good", "damaged at byte 0 offset 3"]


async def test_the_segment_under_writing_is_open_and_grows_during_a_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 1 << 20)
    await journal.append([KIND] * 2, [body(0), body(1)])
    assert said(inspect_all(tmp_path, 2)) == ["open"]
    reading = JournalView(tmp_path, 2).read()
    assert list(next(reading)[1].offsets) == [0, 1]
    await journal.append([KIND], [body(2)])
    assert [list(block.offsets) for _, block in reading] == [[2]]
    await journal.close()
    assert said(inspect_all(tmp_path, 3)) == ["good"]


async def test_a_segment_that_is_only_just_created_is_no_damage(tmp_path: Path) -> None:
    await fill(tmp_path, [3])
    make_path(tmp_path, 3).write_bytes(bytes(100))
    assert said(inspect_all(tmp_path, 3)) == ["good", "open"]


async def test_segments_that_retention_removes_meanwhile_are_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path, [3, 4, 2])
    read = Inspected.read_blocks

    def retention_is_quicker(segment: Inspected, start: int = 0) -> object:
        if segment.base == 3:
            segment.path.unlink()
        return read(segment, start)

    monkeypatch.setattr(Inspected, "read_blocks", retention_is_quicker)
    assert [(segment.base, str(segment)) for segment in inspect_all(tmp_path, 9)] == [(7, "good")]


async def test_large_records_before_a_damaged_one_are_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 1 << 20)
    for offset in range(4):
        await journal.append([KIND], [b'{"id":"%d","text":"%s"}' % (offset, b"x" * 400_000)])
    await journal.close()
    flip(make_path(tmp_path, 0), b'{"id":"3')
    assert offsets(tmp_path) == [0, 1, 2]


async def test_the_ledger_tells_acknowledged_and_unsettled_events(tmp_path: Path) -> None:
    state = StateDatabase(tmp_path)
    gone, runs = Cursor(0, 90, []), Cursor(2, 4, [(6, 7)], Counts(delivered=3))
    await state.save({"gone": gone}, 99)
    await state.save({"runs": runs}, 10)
    state.close()
    found = read_lane_ledgers(tmp_path)
    assert find_acknowledged_head(found) == 10
    lane = found[0]
    assert (lane.connector, lane.ledger.pending, lane.unsettled) == ("runs", 5, [(4, 6), (7, 10)])
    assert [offset for offset in range(10) if not lane.is_settled(offset)] == [4, 5, 7, 8, 9]
