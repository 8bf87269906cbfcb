"""What is cut once goes out cut so again: of whatever a file has, and however far the cursor has come."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.api import BatchSettings, Kind
from relay.catalogue import Selection
from relay.deliver.batch import sent_together as cuts_module
from relay.deliver.batch.builder import Span
from relay.deliver.batch.reader import BatchReader
from relay.deliver.batch.sent_together import Cuts, Ranges, make_settled_test, resume
from relay.journal.journal import Journal
from relay.route import Route
from relay.state.cuts import CutFile, make_cut_file
from relay.store import Cursor, make_ranges
from relay.store.log import JournalLimits
from relay.testing import make_batch, make_event

KIND = Kind("s", "mine")


@pytest.mark.parametrize(
    ("cuts", "cursor", "again"),
    [
        ([[(0, 10)], [(10, 15)]], Cursor(0, 0), [[(0, 10)], [(10, 15)]]),
        ([[(0, 10)], [(10, 15)]], Cursor(0, 10), [[(10, 15)]]),
        ([[(0, 10)], [(10, 15)]], Cursor(0, 0, [(10, 15)]), [[(0, 10)]]),
        ([[(0, 10)], [(0, 5)], [(5, 10)], [(0, 2)]], Cursor(0, 0), [[(0, 10)]]),
        ([[(0, 10)], [(0, 5)], [(0, 2)], [(2, 5)]], Cursor(0, 2), [[(5, 10)], [(2, 5)]]),
        ([[(0, 10)], [(2, 3), (5, 7)]], Cursor(0, 2, [(3, 5), (7, 10)]), [[(2, 3), (5, 7)]]),
        ([[(0, 10)]], Cursor(0, 2, [(4, 5)]), [[(2, 4), (5, 10)]]),
        ([[(95, 105)], [(200, 300)]], Cursor(0, 90), [[(95, 100)]]),
        ([[(0, 5), (8, 9)], [(5, 8)], [(0, 5), (8, 9)]], Cursor(0, 0), [[(0, 5), (8, 9)], [(5, 8)]]),
    ],
    ids=["all", "past", "ahead", "parts", "halves", "left of it", "rest", "no such offsets", "twice"],
)
def test_cuts_go_whole_where_nothing_of_them_is_settled_else_their_parts(
    cuts: list[Ranges], cursor: Cursor, again: list[Ranges]
) -> None:
    assert resume(cuts, cursor, 100) == again


OFFSETS = st.sets(st.integers(0, 30), max_size=31)


@given(
    cuts=st.lists(st.sets(st.integers(0, 35), min_size=1), max_size=8),
    position=st.integers(0, 20),
    settled=OFFSETS,
    until=st.integers(20, 33),
)
def test_whatever_was_cut_what_is_not_settled_goes_once(
    cuts: list[set[int]], position: int, settled: set[int], until: int
) -> None:
    cursor = Cursor(0, position)
    cursor.settle_each([one for one in settled if one >= position], cursor.counts)
    made = [make_ranges(sorted(cut)) for cut in cuts]
    found = [{n for start, stop in cut for n in range(start, stop)} for cut in resume(made, cursor, until)]
    due = {n for cut in cuts for n in cut if n < until and not cursor.is_settled(n)}
    assert sorted(n for cut in found for n in cut) == sorted(due)
    assert all(any(cut <= other for other in cuts) for cut in found)
    first_whole = next((cut for cut in cuts if cut <= due), None)
    assert first_whole is None or first_whole in found
    for cut in made:
        assert make_settled_test(cursor)(cut) == all(
            cursor.is_settled(n) for start, stop in cut for n in range(start, stop)
        )


def make_cuts(folder: Path, journal: str = "j") -> Cuts:
    return Cuts("it", CutFile(folder, "it", "", journal))


async def reopened(folder: Path, journal: str = "j") -> list[Ranges]:
    cuts = make_cuts(folder, journal)
    await cuts.open()
    return cuts.all


async def test_a_torn_file_keeps_earlier_cuts_and_none_of_another_journal(tmp_path: Path) -> None:
    cuts, added = make_cuts(tmp_path), [((0, 5),), ((5, 6), (8, 9)), ((6, 8),)]
    await cuts.open()
    for one in added:
        cuts.add(one)
    cuts.close(lambda cut: False)
    path, expected = make_cut_file(tmp_path, "it"), [[*one] for one in added]
    whole = path.read_bytes()
    assert await reopened(tmp_path) == expected
    with capture_logs() as logs:
        for size in range(whole.index(b"\n") + 1, len(whole)):
            path.write_bytes(whole[:size])
            assert await reopened(tmp_path) == expected[: whole[:size].count(b"\n") - 1]
    assert logs == [], "a crash in the middle of a write is nothing to tell"
    path.write_bytes(whole)
    with capture_logs() as logs:
        assert await reopened(tmp_path, "another") == []
        for damaged in (b"", b"\0" * 99, whole[:9]):
            path.write_bytes(damaged)
            assert await reopened(tmp_path) == []
    assert [line["event"] for line in logs] == ["cuts of another journal are not used"] + ["cuts are damaged"] * 3
    assert oct(path.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(
    "line", [b"", b"x", b"00000000 [[1,2]]", b"\0" * 30, b"\xff" * 20, b"%08x [[1,2]]" % 7], ids=range(6)
)
async def test_a_damaged_line_costs_itself_and_is_told(tmp_path: Path, line: bytes) -> None:
    await assert_is_damaged(line, tmp_path)


async def assert_is_damaged(line: bytes, folder: Path) -> None:
    """Assert that a line between two cuts is left out, and told."""
    cuts = make_cuts(folder)
    await cuts.open()
    cuts.add(((0, 5),))
    cuts.add(((5, 9),))
    path = make_cut_file(folder, "it")
    header, first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([header, first, line, second, b""]))
    with capture_logs() as logs:
        assert await reopened(folder) == [[(0, 5)], [(5, 9)]]
    assert [(line["event"], line["lines"]) for line in logs] == [("cuts are damaged", 1)]


@pytest.mark.parametrize("text", ["[]", "[[2,1]]", "[[3,4],[1,2]]", "[[1,2],[1,3]]", "{}", '[["a",1]]'])
async def test_what_is_no_cut_is_damaged_though_its_checksum_is_right(tmp_path: Path, text: str) -> None:
    await assert_is_damaged(b"%08x %b" % (crc32(text.encode()), text.encode()), tmp_path)


async def test_a_batch_that_was_refused_is_a_cut_no_more_but_its_halves_are(tmp_path: Path) -> None:
    cuts, whole = make_cuts(tmp_path), make_batch([make_event() for _ in range(8)])
    await cuts.open()
    cuts.add_stretch(whole)
    cuts.add_batch(whole.pick([0, 7]))  # some of it was tried again
    cuts.add(((8, 9),))
    cuts.replace_with_parts(whole.pick([0, 7]), [whole.pick([0]), whole.pick([7])])
    assert cuts.all == await reopened(tmp_path) == [[(0, 8)], [(8, 9)], [(0, 1)], [(7, 8)]]
    cuts.replace_with_parts(whole, whole.halves())
    assert cuts.all == await reopened(tmp_path) == [[(8, 9)], [(0, 1)], [(7, 8)], [(0, 4)], [(4, 8)]]


@pytest.mark.parametrize("short", [True, False])
async def test_a_full_disk_costs_the_cuts_of_meanwhile_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    monkeypatch.setattr(cuts_module, "AGAIN_S", 0.0)
    cuts, is_full = make_cuts(tmp_path), True

    def write(fd: int, data: bytes) -> int:
        if not is_full:
            return real(fd, data)
        if short:
            return real(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    real = os.write
    monkeypatch.setattr(os, "write", write)
    await cuts.open()
    with capture_logs() as logs:
        for offset in range(5):
            cuts.add(((offset, offset + 1),))
        assert await reopened(tmp_path) == []
        is_full = False
        cuts.add(((5, 6),))
        cuts.add(((6, 7),))
    assert await reopened(tmp_path) == [[(offset, offset + 1)] for offset in range(7)]
    assert [line["event"] for line in logs] == ["cuts cannot be kept", "cuts are kept again"]


async def test_a_file_of_cuts_stays_small_and_is_removed_at_the_end(tmp_path: Path) -> None:
    cuts, path = make_cuts(tmp_path), make_cut_file(tmp_path, "it")
    await cuts.open()
    largest = 0
    for offset in range(20_000):
        cuts.add(((offset, offset + 1),))
        cuts.forget(make_settled_test(Cursor(0, offset - 100)))
        largest = max(largest, path.stat().st_size)
    assert largest < 2 * cuts_module.GROWN
    assert (await reopened(tmp_path))[-101:] == [[(offset, offset + 1)] for offset in range(19_899, 20_000)]
    cuts.close(make_settled_test(Cursor(0, 19_999)))
    assert path.exists()
    make_cuts(tmp_path).close(make_settled_test(Cursor(0, 20_000)))
    assert path.exists(), "a lane that never began has not read it"
    cuts.close(make_settled_test(Cursor(0, 20_000)))
    assert not path.exists()


async def spans(journal: Journal, cursor: Cursor, cuts: Sequence[Ranges], **limits: Any) -> list[Span]:
    """What a lane that begins here and ends at the journal's head is given."""
    route = Route(Selection(["mine"]))
    collector = BatchReader(journal, cursor, route, BatchSettings(**limits), journal.head, cuts)
    found = []
    try:
        async with asyncio.timeout(60):
            while (span := await collector.read_next()) is not None:
                found.append(span)
    finally:
        collector.close()
    return found


@pytest.mark.parametrize("memory", [1, 1 << 20])
async def test_a_lane_begins_with_what_was_cut_and_goes_on_as_usual(tmp_path: Path, memory: int) -> None:
    """Out of memory and off the disk; blocks are cut at other places than the spans."""
    journal = Journal(tmp_path, JournalLimits(1 << 30, 3600), memory)
    for size in (3, 4, 1, 12):
        kinds = [Kind("s", "other") if n == 2 else KIND for n in range(size)]
        await journal.append(kinds, [b'{"n":%d}' % (journal.head + n) for n in range(size)])
    cursor = Cursor(0, 1, [(4, 5)])
    cuts = [[(7, 10)], [(1, 2), (3, 4), (6, 7)], [(12, 18)]]
    made = await spans(journal, cursor, cuts, events=4)
    assert [(span.ranges, span.is_cut, span.batch and span.batch.offsets()) for span in made[:4]] == [
        ([(7, 10)], True, [7, 8, 9]),
        ([(1, 2), (3, 4), (6, 7)], True, [1, 3, 6]),
        ([(12, 16)], False, [12, 13, 14, 15]),
        ([(16, 18)], False, [16, 17]),
    ]
    assert [span.counts.unselected for span in made[:4]] == [0] * 4
    assert sorted(n for span in made for n in (span.batch or ()) and span.batch.offsets()) == [
        n for n in range(1, 20) if n not in (2, 4, 5, 10)
    ]
    for span in made:
        cursor.settle_ranges(span.ranges or [(span.start, span.stop)], span.counts)
    assert cursor.position == journal.head == 20
    (whole,) = await spans(journal, Cursor(0, 0), [[(0, 20)]], events=100)
    (usual,) = await spans(journal, Cursor(0, 0), [], events=100)
    assert whole.batch is not None
    assert usual.batch is not None
    assert whole.counts.unselected == 3
    assert whole.batch.id == usual.batch.id
    await journal.close()


def test_an_id_does_not_depend_on_the_blocks_of_the_events() -> None:
    """It is that of the bytes, in memory as well as off the disk, picked or whole."""
    whole = make_batch([make_event() for _ in range(6)])
    parts = type(whole)([whole.pick([n]).blocks[0] for n in range(6)])
    assert parts.id == whole.id
    assert parts.pick([0, 1]).id == whole.pick([0, 1]).id != whole.pick([0, 2]).id
