"""Somebody removes or moves files of a journal that is written to: what is acknowledged has a name on disk."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from relay.api import Kind
from relay.journal.journal import Journal
from relay.journal.outside.view import JournalView
from relay.store.error import Unavailable
from relay.store.log import JournalLimits

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(16 << 20, 3600)


def on_disk(folder: Path) -> list[int]:
    return [event.offset for _, block in JournalView(folder).read() for event in block.events()]


async def append(journal: Journal, number: int = 1, size: int = 0) -> None:
    for _ in range(number):
        await journal.append([KIND], [b'{"x":"' + b"y" * size + b'"}'])


@pytest.mark.parametrize("what", ["the file", "all files", "the folder"])
async def test_a_removed_open_segment_is_rewritten_before_the_next_answer(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Siblings: the file alone, everything in the folder, the folder itself; noticed by the next commit."""
    folder = tmp_path / "journal"
    journal = Journal(folder, LIMITS, 1 << 20)
    await append(journal, 3)
    if what == "the folder":
        shutil.rmtree(folder)
    else:
        for path in folder.glob("*.log" if what == "the file" else "*"):
            path.unlink()
    await append(journal)
    assert on_disk(folder) == [0, 1, 2, 3]
    assert "a journal segment was removed, and is written again" in capsys.readouterr().out
    await append(journal)
    assert on_disk(folder) == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="in use by another relay"):
        Journal(folder, LIMITS, 0)
    identity = journal.identity
    await journal.close()
    reopened = Journal(folder, LIMITS, 0)
    assert (reopened.head, reopened.identity) == (5, identity)
    await reopened.close()


@pytest.mark.parametrize("noticed_by", ["close", "keep"])
async def test_it_is_noticed_without_another_commit(tmp_path: Path, noticed_by: str) -> None:
    journal = Journal(tmp_path, LIMITS, 1 << 20)
    await append(journal, 3)
    next(tmp_path.glob("*.log")).unlink()
    if noticed_by == "keep":
        await journal.keep(0)
        assert on_disk(tmp_path) == [0, 1, 2]
    await journal.close()
    assert on_disk(tmp_path) == [0, 1, 2]


async def test_a_folder_that_was_moved_takes_nothing_until_it_is_back(tmp_path: Path) -> None:
    """Siblings: nothing in its place, another folder in its place (an unmounted disk). What was written there would be
    lost when the right one is back."""
    folder, away = tmp_path / "journal", tmp_path / "away"
    journal = Journal(folder, LIMITS, 1 << 20)
    await append(journal, 2)
    folder.rename(away)
    for _ in range(2):
        with pytest.raises(Unavailable, match="leads to another folder"):
            await append(journal)
    folder.mkdir()
    with pytest.raises(Unavailable, match="leads to another folder"):
        await append(journal)
    assert [*folder.iterdir()] == []
    folder.rmdir()
    away.rename(folder)
    await append(journal)
    assert on_disk(folder) == [0, 1, 2]
    await journal.close()


async def test_sealed_segments_that_were_removed_are_told_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path, LIMITS, 0)
    await append(journal, 5, size=400_000)
    first, second, *_ = sorted(tmp_path.glob("*.log"))
    first.unlink()
    await journal.keep(0)
    assert "journal segments were removed by somebody else" in capsys.readouterr().out
    assert journal.oldest == int(second.stem)
    reader = journal.open_reader()
    async with asyncio.timeout(30):
        assert (await reader.read(0))[0].offsets[0] == journal.oldest
    second.unlink()
    reader.release_file()
    async with asyncio.timeout(30):
        await reader.read(journal.oldest)
    assert journal.lost > 0
    reader.close()
    await journal.close()


@pytest.mark.parametrize("left", [0, 10, 150])
@pytest.mark.parametrize("noticed_by", ["commit", "keep", "close", "roll"])
async def test_a_truncated_open_segment_is_rewritten_and_later_events_are_kept(
    tmp_path: Path, left: int, noticed_by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Siblings: truncated to nothing, inside the prefix, inside a record; noticed by a commit, tidying, sealing."""
    journal = Journal(tmp_path, LIMITS, 1 << 20)
    await append(journal, 3)
    (file,) = tmp_path.glob("*.log")
    os.truncate(file, left)
    if noticed_by == "commit":
        await append(journal, 2)
        assert on_disk(tmp_path) == [0, 1, 2, 3, 4]
    elif noticed_by == "keep":
        await journal.keep(0)
    elif noticed_by == "roll":
        journal._writer.seal(journal.head)
    await journal.close()
    assert on_disk(tmp_path) == [*range(5 if noticed_by == "commit" else 3)]
    assert capsys.readouterr().out.count("a journal segment was truncated, and is written again") == 1
    assert journal.lost == 0
    reopened = Journal(tmp_path, LIMITS, 0)
    assert (reopened.head, reopened.problem) == (5 if noticed_by == "commit" else 3, "")
    await reopened.close()


@pytest.mark.parametrize("which", ["open", "sealed"])
async def test_only_missing_events_of_a_truncated_segment_count_as_lost(tmp_path: Path, which: str) -> None:
    """Siblings: the open segment and those before it, which copytruncate of *.log takes as well."""
    journal = Journal(tmp_path, LIMITS, 0)
    await append(journal, 8, size=200_000)
    reader = journal.open_reader()
    async with asyncio.timeout(30):
        await reader.read(0)  # keeps the first file open
    files = sorted(tmp_path.glob("*.log"))
    path = files[0] if which == "sealed" else files[-1]
    base, end = int(path.stem), int(files[1].stem) if which == "sealed" else 8
    os.truncate(path, 250_000)
    await append(journal, 2, size=10)
    await journal.keep(0)
    assert journal.lost == end - base - 1
    offset, got = 0, []
    async with asyncio.timeout(30):
        while offset < journal.head:
            got += [event.offset for block in await reader.read(offset) for event in block.events()]
            offset = reader.offset
    assert got == [n for n in range(10) if not base < n < end] == on_disk(tmp_path)
    reader.close()
    await journal.close()


async def test_a_record_that_fills_its_segment_hides_no_truncation(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 1 << 20)
    await append(journal, size=2 << 20)  # larger than a segment: its file is made for it
    (file,) = tmp_path.glob("*.log")
    os.truncate(file, 0)
    await append(journal)
    await journal.close()
    assert on_disk(tmp_path) == [1]
    assert journal.lost == 1
