"""How long parked events stay: until they are too old or too many, or the disk has no room for them."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from structlog.testing import capture_logs

from relay.cli.main import relay
from relay.runtime.partitions import parked_removal as parking
from relay.runtime.partitions.parked_removal import keep_removing_parked
from relay.state.database import StateDatabase
from relay.state.parked import FolderParked
from relay.state.parked import limits as parked_limits
from relay.store import ROW_BYTES, Parked, ParkedLimits, ParkedQuery, Unavailable, measure_parked
from tests.parked import drop_parked, list_parked, mark_parked

DAY_S = 86400.0
AT_THE_SOURCE = Parked("braze", None, None, None, "unreadable", "no id", 0, b"7")


def refused(offset: int, connector: str = "heap") -> Parked:
    return Parked("braze", connector, offset, "a.b", "refused", "HTTP 400", 1, b"{}")


def age(folder: Path, seconds: float, numbers: str = "SELECT number FROM parked") -> None:
    """Set the times of parked events back."""
    with closing(sqlite3.connect(folder / "relay.db")) as db, db:
        db.execute(f"UPDATE parked SET first = first - ?, last = last - ? WHERE number IN ({numbers})", [seconds] * 2)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[StateDatabase]:
    state = StateDatabase(tmp_path)
    yield state
    state.close()


@asynccontextmanager
async def tidied(state: StateDatabase, retention: float) -> AsyncIterator[None]:
    state.parked_limits = ParkedLimits(retention=retention)
    async with asyncio.TaskGroup() as group:
        tidying = group.create_task(keep_removing_parked(state), name="tidy")
        yield
        tidying.cancel()


async def until_left(folder: Path, number: int) -> list[Parked]:
    async with asyncio.timeout(30):
        while len(left := list_parked(folder)) != number:
            await asyncio.sleep(0.005)
    return left


async def until_told(lines: Sequence[Any], level: str) -> None:
    async with asyncio.timeout(30):
        while not any(line["log_level"] == level for line in lines):
            await asyncio.sleep(0.005)


async def test_parked_events_expire_by_last_failure_in_portions_and_logged_once(
    tmp_path: Path, state: StateDatabase, monkeypatch: Any
) -> None:
    monkeypatch.setattr(parked_limits, "PORTION_BYTES", 3 * ROW_BYTES)
    await state.park([refused(n) for n in range(10)] + [refused(0, "hook"), AT_THE_SOURCE])
    age(tmp_path, 91 * DAY_S)
    age(tmp_path, 1 * DAY_S, "11")
    oldest = min(one.last for one in list_parked(tmp_path))
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


async def test_what_is_to_be_replayed_stays(tmp_path: Path, state: StateDatabase) -> None:
    await state.park([refused(1), refused(2)])
    age(tmp_path, 91 * DAY_S)
    mark_parked(tmp_path, ParkedQuery(numbers=[1]))
    async with tidied(state, 90 * DAY_S):
        (left,) = await until_left(tmp_path, 1)
    assert left.number == 1


async def test_without_limits_parked_events_stay_for_ever(tmp_path: Path, state: StateDatabase) -> None:
    await state.park([refused(1), AT_THE_SOURCE])
    age(tmp_path, 10_000 * DAY_S)
    assert not await state.remove_parked()
    assert len(list_parked(tmp_path)) == 2


async def test_it_is_looked_for_again_and_again_also_after_an_error(
    tmp_path: Path, state: StateDatabase, monkeypatch: Any
) -> None:
    monkeypatch.setattr(parking, "EVERY_S", 0.01)
    remove, failed = state.remove_parked, asyncio.Event()

    async def fail_once() -> bool:
        monkeypatch.setattr(state, "remove_parked", remove)
        failed.set()
        raise Unavailable("database or disk is full")

    monkeypatch.setattr(state, "remove_parked", fail_once)
    await state.park([refused(1)])
    with capture_logs() as lines:
        async with tidied(state, 90 * DAY_S):
            async with asyncio.timeout(30):
                await failed.wait()
            assert len(list_parked(tmp_path)) == 1
            age(tmp_path, 91 * DAY_S)
            await until_left(tmp_path, 0)
            await until_told(lines, "warning")
    assert [line["log_level"] for line in lines] == ["error", "warning"]


async def test_what_was_removed_before_an_error_is_told(tmp_path: Path, state: StateDatabase, monkeypatch: Any) -> None:
    remove = state.remove_parked

    async def fail_later() -> bool:
        if await remove():
            return True
        raise Unavailable("disk I/O error")

    monkeypatch.setattr(state, "remove_parked", fail_later)
    await state.park([refused(1), refused(2)])
    age(tmp_path, 91 * DAY_S)
    with capture_logs() as lines:
        async with tidied(state, 90 * DAY_S):
            await until_told(lines, "warning")
    assert [(line["log_level"], line.get("counts")) for line in lines] == [("error", None), ("warning", {"heap": 2})]


async def test_the_oldest_leave_first(tmp_path: Path, state: StateDatabase, monkeypatch: Any) -> None:
    monkeypatch.setattr(parked_limits, "PORTION_BYTES", 2 * ROW_BYTES)
    await state.park([replace(refused(n), reason=str(n)) for n in range(4)])
    for number, days in ((1, 93), (2, 91), (3, 94), (4, 92)):
        age(tmp_path, days * DAY_S, str(number))
    state.parked_limits = ParkedLimits(retention=DAY_S)
    assert await state.remove_parked()
    assert [one.number for one in list_parked(tmp_path)] == [2, 4]


def junk(number: int, size: int = 1000) -> Parked:
    return replace(AT_THE_SOURCE, body=b"%d" % number + b" " * size)


async def test_unreadable_ones_leave_twice_min_free_and_others_wait_for_it(
    tmp_path: Path, state: StateDatabase, monkeypatch: Any
) -> None:
    free = 2_500_000
    monkeypatch.setattr(parked_limits, "disk_usage", lambda folder: SimpleNamespace(free=free))
    await state.park([junk(n, 100_000) for n in range(4)])
    state.parked_limits = ParkedLimits(min_free=1_000_000)
    await state.park([junk(4, 100_000)])
    assert len(list_parked(tmp_path)) == 5
    free = 1_950_000
    await state.park([junk(5, 100_000)])
    assert [one.number for one in list_parked(tmp_path)] == [3, 4, 5, 6]
    free = 900_000
    with pytest.raises(Unavailable, match="min_free"):
        await state.park([replace(refused(1), body=b" " * 2_000_000)])
    assert FolderParked(tmp_path).read_totals()[0].removed == {"journal.min_free": 6}
    assert "heap" not in {one.connector for one in FolderParked(tmp_path).read_totals()}
    free = 5_000_000
    await state.park([replace(refused(1), body=b" " * 2_000_000)])


async def test_totals_follow_every_change_and_are_counted_for_an_older_relay(tmp_path: Path) -> None:
    state = StateDatabase(tmp_path)
    await state.park([refused(1), refused(2), junk(3)])
    await state.park([replace(refused(2), cause="gave_up", reason="longer " * 9)])
    drop_parked(tmp_path, ParkedQuery(numbers=[1]))
    found = {one.cause: (one.events, one.bytes) for one in FolderParked(tmp_path).read_totals()}
    assert found == {
        "gave_up": (1, measure_parked("longer " * 9, "", None, b"{}")),
        "unreadable": (1, measure_parked("no id", "", None, junk(3).body)),
    }
    state.close()
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
        db.execute("DELETE FROM parked_total")
    StateDatabase(tmp_path).close()
    assert {one.cause: (one.events, one.bytes) for one in FolderParked(tmp_path).read_totals()} == found


async def test_listing_holds_no_lock_and_sees_a_portion_at_a_time(tmp_path: Path, state: StateDatabase) -> None:
    await state.park([junk(n, 300_000) for n in range(20)])
    listing = FolderParked(tmp_path).read(ParkedQuery())
    next(listing)
    assert drop_parked(tmp_path, ParkedQuery()) == 20
    assert len([*listing]) < 10
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


async def test_what_is_parked_while_others_are_dropped_stays(tmp_path: Path, state: StateDatabase) -> None:
    await state.park([junk(n, 1_100_000) for n in range(4)])
    dropping = FolderParked(tmp_path).drop(ParkedQuery(source="braze"))
    assert next(dropping) == 1
    await state.park([junk(9)])
    assert sum(dropping) == 3
    assert [one.number for one in list_parked(tmp_path)] == [5]


async def test_the_file_shrinks_after_a_drop_also_that_of_an_older_relay(tmp_path: Path, state: StateDatabase) -> None:
    for folder in (tmp_path, tmp_path / "older"):
        if folder != tmp_path:
            folder.mkdir()
            with closing(sqlite3.connect(folder / "relay.db")) as db:
                db.execute("PRAGMA journal_mode = WAL")  # without auto_vacuum
            state = StateDatabase(folder)
        await state.park([junk(n, 1_000_000) for n in range(20)])
        assert (folder / "relay.db").stat().st_size > 10_000_000
        drop_parked(folder, ParkedQuery(source="braze"))
        assert (folder / "relay.db").stat().st_size < 6_000_000, folder
    state.close()


async def test_a_replay_says_of_what_waits_for_an_earlier_one_for_which(tmp_path: Path) -> None:
    """Looked at: other keys, other connectors, other parts of one event, and the earlier one replayed as well."""
    state = StateDatabase(tmp_path)
    behind = [replace(refused(3, "hook"), cause="order", key="ann"), replace(refused(3), cause="order", key="ann")]
    more = [replace(refused(3), cause="order", key="ann", part=1), replace(refused(4), cause="order", key="ben")]
    await state.park([replace(refused(1), key="ann"), *behind, *more])
    state.close()

    def replay(*words: object) -> tuple[str, list[str]]:
        result = CliRunner().invoke(relay, ["parked", "replay", *map(str, words), "--state", str(tmp_path)])
        return result.stdout, result.stderr.splitlines()

    waits = "waits for 1, an earlier one of its key: replay that or drop it"
    assert replay(2, 3, 4, 5) == ("4 to be replayed\n", [f"3 {waits}", f"4 {waits}"])
    assert replay("--connector", "heap") == ("4 to be replayed\n", [])
