"""How long parked events stay: until their retention is over, and not at all by anything else."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.journal import Parked, State, Which, mark_parked, parked, parking, tidy_parking

DAY_S = 86400.0
AT_THE_SOURCE = Parked("braze", None, None, None, "unreadable", "no id", 0, b"7")


def refused(offset: int, connector: str = "heap") -> Parked:
    return Parked("braze", connector, offset, "a.b", "refused", "HTTP 400", 1, b"{}")


def age(folder: Path, seconds: float, numbers: str = "SELECT number FROM parked") -> None:
    """Set the times of parked events back."""
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        db.execute(f"UPDATE parked SET first = first - ?, last = last - ? WHERE number IN ({numbers})", [seconds] * 2)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[State]:
    state = State(tmp_path)
    yield state
    state.close()


@asynccontextmanager
async def tidied(state: State, retention: float) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tidying = group.create_task(tidy_parking(state, retention), name="tidy")
        yield
        tidying.cancel()


async def until_left(folder: Path, number: int) -> list[Parked]:
    async with asyncio.timeout(10):
        while len(left := parked(folder)) != number:
            await asyncio.sleep(0.005)
    return left


async def until_told(lines: Sequence[Any], level: str) -> None:
    async with asyncio.timeout(10):
        while not any(line["log_level"] == level for line in lines):
            await asyncio.sleep(0.005)


async def test_events_leave_by_their_last_failure_in_portions_and_it_is_said_once(
    tmp_path: Path, state: State, monkeypatch: Any
) -> None:
    monkeypatch.setattr(parking, "PORTION", 3)
    await state.park([refused(n) for n in range(10)] + [refused(0, "hook"), AT_THE_SOURCE])
    age(tmp_path, 91 * DAY_S)
    age(tmp_path, 1 * DAY_S, "11")
    oldest = min(one.last for one in parked(tmp_path))
    await state.park([refused(4)])  # it has failed again
    with capture_logs() as lines:
        async with tidied(state, 90 * DAY_S):
            (left,) = await until_left(tmp_path, 1)
            await until_told(lines, "warning")
    assert (left.offset, left.attempts) == (4, 2)
    (line,) = lines
    assert (line["event"], line["log_level"], line["events"]) == ("parked events removed", "warning", 11)
    assert line["counts"] == {"heap": 9, "hook": 1, "source braze": 1}
    assert datetime.fromisoformat(line["oldest"]).timestamp() == pytest.approx(oldest, abs=1)


async def test_what_is_to_be_replayed_stays(tmp_path: Path, state: State) -> None:
    await state.park([refused(1), refused(2)])
    age(tmp_path, 91 * DAY_S)
    mark_parked(tmp_path, Which(numbers=[1]))
    async with tidied(state, 90 * DAY_S):
        (left,) = await until_left(tmp_path, 1)
    assert left.number == 1


async def test_a_retention_of_0_is_for_ever(tmp_path: Path, state: State) -> None:
    await state.park([refused(1)])
    age(tmp_path, 10_000 * DAY_S)
    await tidy_parking(state, 0)
    assert len(parked(tmp_path)) == 1


async def test_it_is_looked_for_again_and_again_also_after_an_error(
    tmp_path: Path, state: State, monkeypatch: Any
) -> None:
    monkeypatch.setattr(parking, "EVERY_S", 0.01)
    expire, failed = state.expire_parked, asyncio.Event()

    async def fail_once(*arguments: Any) -> list[tuple[str, float]]:
        monkeypatch.setattr(state, "expire_parked", expire)
        failed.set()
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(state, "expire_parked", fail_once)
    await state.park([refused(1)])
    with capture_logs() as lines:
        async with tidied(state, 90 * DAY_S):
            async with asyncio.timeout(10):
                await failed.wait()
            assert len(parked(tmp_path)) == 1
            age(tmp_path, 91 * DAY_S)
            await until_left(tmp_path, 0)
            await until_told(lines, "warning")
    assert [line["log_level"] for line in lines] == ["error", "warning"]


async def test_what_was_removed_before_an_error_is_told(tmp_path: Path, state: State, monkeypatch: Any) -> None:
    answers = iter([[("heap", 1e9)] * 2])

    async def fail_later(*arguments: Any) -> list[tuple[str, float]]:
        for answer in answers:
            return answer
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(state, "expire_parked", fail_later)
    with capture_logs() as lines:
        async with tidied(state, 90 * DAY_S):
            async with asyncio.timeout(10):
                while len(lines) < 2:
                    await asyncio.sleep(0.005)
    assert [(line["log_level"], line.get("counts")) for line in lines] == [("warning", {"heap": 2}), ("error", None)]
    assert lines[0]["oldest"] == "2001-09-09T01:46:40Z"


async def test_the_oldest_leave_first(tmp_path: Path, state: State) -> None:
    await state.park([replace(refused(n), reason=str(n)) for n in range(4)])
    for number, days in ((1, 93), (2, 91), (3, 94), (4, 92)):
        age(tmp_path, days * DAY_S, str(number))
    gone = await state.expire_parked(4e9, 2)
    assert [whose for whose, _ in gone] == ["heap", "heap"]
    assert [one.number for one in parked(tmp_path)] == [2, 4]
