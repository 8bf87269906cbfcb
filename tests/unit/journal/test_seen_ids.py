"""The ids that a source took lately: exact to the moment, kept over restarts, and dispensable."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.journal.seen_ids import Seen, forget_seen
from tests.conftest import LONG

WINDOW = 10
DAMAGED = "ids of events are damaged and removed, so that duplicates of them pass"
NOT_KEPT = "ids of events cannot be kept, so that duplicates of them pass"


class Clock:
    """Says what it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def reopen(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[[], Awaitable[Seen]]]:
    """Closes what is open, if anything is, and opens it again."""
    opened: list[Seen] = []

    async def close() -> None:
        while opened:
            await opened.pop().close()

    async def reopen() -> Seen:
        await close()
        opened.append(Seen(tmp_path / "seen", "braze", WINDOW, clock))
        return opened[0]

    yield reopen
    await close()


@pytest.fixture
async def seen(reopen: Callable[[], Awaitable[Seen]]) -> Seen:
    return await reopen()


def files(state: Path) -> list[Path]:
    return sorted((state / "seen").glob("*.db"))


IDS = st.lists(st.sampled_from("abcdef"), max_size=6)
STEPS = st.lists(
    st.tuples(st.just("note"), IDS) | st.tuples(st.just("wait"), st.integers(0, 2 * WINDOW + 3)) | st.just(("open", 0)),
    max_size=30,
)


async def told(steps: Sequence[tuple[str, object]], state: Path) -> Iterator[tuple[set[str], set[str]]]:
    """After each step: what is found, and what a dict of the last times would say."""
    clock, last, pairs = Clock(), dict[str, int](), []
    seen = Seen(state / "seen", "braze", WINDOW, clock)
    for step, what in steps:
        if isinstance(what, list):
            await seen.note(what)
            last |= dict.fromkeys(what, clock.now)
        elif step == "wait" and isinstance(what, int):
            clock.now += what
        else:
            await seen.close()
            seen = Seen(state / "seen", "braze", WINDOW, clock)
        expected = {one for one, at in last.items() if clock.now - at <= WINDOW}
        pairs.append((await seen.find("abcdef"), expected))
        assert len(files(state)) <= 2
    await seen.close()
    return iter(pairs)


@given(STEPS)
def test_what_is_found_is_what_came_within_the_window_to_the_moment(steps: list[tuple[str, object]]) -> None:
    with TemporaryDirectory() as state:
        for found, expected in asyncio.run(told(steps, Path(state))):
            assert found == expected


@given(st.lists(st.tuples(st.integers(-3 * WINDOW, 3 * WINDOW), IDS), max_size=20))
def test_whatever_the_clock_does_nothing_is_found_that_was_never_noted(steps: list[tuple[int, list[str]]]) -> None:
    async def story(state: Path) -> None:
        clock, noted = Clock(), set[str]()
        seen = Seen(state / "seen", "braze", WINDOW, clock)
        for seconds, ids in steps:
            clock.now += seconds
            await seen.note(ids)
            noted |= {*ids}
            assert {*ids} <= await seen.find("abcdef") <= noted
            assert len(files(state)) <= 2
        await seen.close()

    with TemporaryDirectory() as state:
        asyncio.run(story(Path(state)))


async def test_a_clock_that_was_years_ahead_does_not_keep_ids_for_years(
    seen: Seen, clock: Clock, tmp_path: Path
) -> None:
    right, clock.now = clock.now, clock.now + 10**9
    await seen.note(["ahead"])
    clock.now = right
    for number in range(5):
        await seen.note([f"{number}"])
        clock.now += WINDOW
    assert len(files(tmp_path)) == 2
    assert await seen.find(["ahead", "3", "4"]) == {"4"}


async def test_sources_do_not_share_what_they_have_seen(tmp_path: Path, clock: Clock, seen: Seen) -> None:
    other = Seen(tmp_path / "seen", "braze-2", WINDOW, clock)
    await seen.note(["a"])
    await other.note(["b"])
    assert (await seen.find("ab"), await other.find("ab")) == ({"a"}, {"b"})
    await other.close()


@pytest.mark.parametrize("at", ["head", "page"])
async def test_a_damaged_file_is_removed_and_the_other_one_still_counts(tmp_path: Path, clock: Clock, at: str) -> None:
    seen = Seen(tmp_path / "seen", "braze", 10 * WINDOW, clock)
    await seen.note([f"old {number}" for number in range(2000)])
    clock.now += 10 * WINDOW
    await seen.note(["new"])
    await seen.close()
    oldest = files(tmp_path)[0]
    whole = oldest.read_bytes()
    oldest.write_bytes(b"x" * 100 + whole[100:] if at == "head" else whole[:4096] + b"\xff" * len(whole[4096:]))
    again = Seen(tmp_path / "seen", "braze", 10 * WINDOW, clock)
    with capture_logs() as logs:
        assert await again.find(["new", "old 7"]) == {"new"}
    assert [(line["event"], line["file"], line["log_level"]) for line in logs] == [(DAMAGED, oldest.name, "error")]
    assert oldest not in files(tmp_path)
    await again.note(["old 7"])
    assert await again.find(["new", "old 7"]) == {"new", "old 7"}
    await again.close()


async def test_a_file_that_is_cut_to_nothing_is_as_good_as_a_new_one(tmp_path: Path, seen: Seen, reopen: Any) -> None:
    await seen.note(["a"])
    again = await reopen()
    files(tmp_path)[0].write_bytes(b"")
    assert await again.find(["a"]) == set()
    await again.note(["a"])
    assert await again.find(["a"]) == {"a"}


async def test_a_folder_that_cannot_be_written_lets_everything_pass_until_it_can(tmp_path: Path, seen: Seen) -> None:
    blocking = tmp_path / "seen"
    blocking.write_text("no folder")
    with capture_logs() as logs:
        await seen.note(["a"])
        assert await seen.find(["a"]) == set()
    assert {(line["event"], line["log_level"]) for line in logs} == {(NOT_KEPT, "error")}
    blocking.unlink()
    await seen.note(["a"])
    assert await seen.find(["a"]) == {"a"}


async def test_a_file_that_somebody_else_has_locked_lets_everything_pass(
    tmp_path: Path, seen: Seen, reopen: Any
) -> None:
    await seen.note(["a"])
    again = await reopen()
    with closing(sqlite3.connect(files(tmp_path)[0], isolation_level=None)) as db, capture_logs() as logs:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        assert await again.find(["a"]) == set()
    assert [line["event"] for line in logs] == [NOT_KEPT]
    assert await again.find(["a"]) == {"a"}


async def test_ids_of_sources_that_need_them_no_more_leave_the_disk(tmp_path: Path, clock: Clock, seen: Seen) -> None:
    await seen.note(["a"])
    other = Seen(tmp_path / "seen", "other", WINDOW, clock)
    await other.note(["a"])
    await other.close()
    (tmp_path / "seen" / "README").write_text("not ours")
    forget_seen(tmp_path / "seen", ["braze"])
    assert {path.name.partition(".")[0] for path in (tmp_path / "seen").iterdir()} == {"README", "braze"}
    forget_seen(tmp_path / "nowhere", [])


async def test_ids_of_any_text_and_any_number_are_told_apart(seen: Seen) -> None:
    odd = ["", "\0", "é", "\ud800", "x" * 1000, *map(str, range(20_000))]
    await seen.note(odd[::2])
    assert await seen.find(odd) == {*odd[::2]}
    assert await seen.find([]) == set()


@pytest.mark.slow
async def test_memory_does_not_grow_with_what_is_remembered(tmp_path: Path) -> None:
    seen, ids = Seen(tmp_path / "seen", "braze", 3600), 0
    peaks = []
    for _ in range(10 if LONG else 5):
        for _ in range(40 if LONG else 20):
            await seen.note([f"event {ids + number}" for number in range(1000)])
            ids += 1000
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    await seen.close()
    (size,) = (path.stat().st_size for path in files(tmp_path))
    assert size > ids * 20
    assert peaks[-1] - peaks[1] < 2 << 10, "KiB at most, while the file has grown by more than a half"
    assert size / ids < 60, "bytes an event"


async def test_of_a_subject_only_the_newest_is_found(clock: Clock, seen: Seen, reopen: Any) -> None:
    """Looked at as well: a clock that goes back, two generations, a crash before the note, another subject."""
    await seen.note(["a", "b"], "page")
    assert await seen.find(["a", "b", "c"], "page") == {"a", "b"}
    clock.now -= 5
    await seen.note(["c"], "other")
    await seen.supersede("page")
    assert await seen.find(["a", "b"], "page") == set(), "whether or not the newer ones are noted"
    await seen.note(["x"], "page")
    clock.now += 5 + WINDOW - 1
    seen = await reopen()
    assert await seen.find(["a", "b", "x"], "page") == set(), "the clock was back, and that is long ago"
    await seen.note(["a"], "page")
    clock.now += 2
    await seen.supersede("page")
    await seen.note(["x"], "page")
    assert await seen.find(["a", "x"], "page") == {"x"}
    assert await seen.find(["a", "c", "x"]) == {"a", "x"}


async def test_what_cannot_be_superseded_is_forgotten(tmp_path: Path, seen: Seen, reopen: Any) -> None:
    await seen.note(["a"], "page")
    seen = await reopen()
    (file,) = (tmp_path / "seen").glob("*.db")
    with closing(sqlite3.connect(file, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        await seen.supersede("page")
    assert await seen.find(["a"], "page") == set()
