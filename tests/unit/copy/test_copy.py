"""Copies between engines: everything is carried, a copy that was cut off goes on, and foreign data is left alone."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from relay.api import User
from relay.copy import FIRST_TABLES, TABLES, EmbeddedSide, LogPart, Side, StoredRecord, copy_all, copy_logs, count_rest
from relay.copy.contract import Row
from relay.journal import repair
from relay.store import Unavailable, Wanted
from tests.unit.copy.filled import KINDS, LIMITS, PATH, append, make_sides, make_state, read_all

DERIVED = {"parked_total", "holder"}
"""Tables that triggers keep, and that tell of relays at work."""
BOTH = pytest.mark.parametrize("target", [pytest.param("embedded", marks=pytest.mark.long), "postgres"], indirect=True)


def ignore(*progress: int) -> None:
    """Tell nobody."""


class CutOff(Exception):
    """Raised when a copy is cut off."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a relay with two workers that has stopped."""
    make_state(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def source(state: Path) -> Side:
    return EmbeddedSide(state, PATH)


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    yield from make_sides(getattr(request, "param", "postgres"), tmp_path / "target")


async def start(side: Side) -> None:
    """Start with the store of a side, as a relay does, take an event, and stop."""
    membership = side.store.join(0)
    log, state = side.store.open(0, LIMITS, 1 << 20)
    assert await log.append(KINDS[:1], [b"{}"]) == 840
    await log.close()
    state.close()
    membership.leave()
    assert read_offsets(side)[-2:] == [839, 840]


def test_every_table_has_a_place_on_both_sides(state: Path, source: Side, target: Side) -> None:
    with closing(sqlite3.connect(state / "relay.db")) as db:
        names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        kept = {name for (name,) in db.execute(names)}
    assert kept - DERIVED <= {*TABLES, *FIRST_TABLES}
    for table in (*TABLES, *FIRST_TABLES):
        assert {*source.list_columns(table)} == {*target.list_columns(table)}


async def test_a_last_pass_carries_everything(source: Side, target: Side) -> None:
    before = read_all(source)
    assert [name for name, found in before.items() if not found] == []
    result = copy_all(source, target, ignore)
    assert (result.problems, read_all(target)) == ([], before)
    for there, here in result.audits.values():
        assert (there.head, there.oldest, there.problems, here.problems) == (840, 0, [], [])
        assert here.connectors == there.connectors
    assert target.read_bar() == ""
    assert f"was copied to {target.place} by the last pass at " in source.read_bar()
    await start(target)
    with pytest.raises(Unavailable, match="relay goes on there"):
        await start(source)


@BOTH
async def test_a_bulk_that_was_cut_off_goes_on_where_it_was(source: Side, target: Side) -> None:
    before, left = read_all(source), 3

    def cut_off(*progress: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise CutOff

    with pytest.raises(CutOff):
        copy_logs(source, target, cut_off)
    found = copy_logs(source, target, ignore)
    assert [(one.parts, one.there) for one in found] == [(1, 2), (3, 0)]
    assert [one.there for one in copy_all(source, target, ignore).logs] == [2, 2]
    assert read_all(target) == before


async def test_a_bulk_says_what_is_left_and_lets_no_relay_start(source: Side, target: Side) -> None:
    copy_logs(source, target, ignore)
    assert {name: rows for name, rows in count_rest(source).items() if name in ("parked", "pause", "history")} == {
        "parked": 8,
        "pause": 2,
        "history": 2,
    }
    with pytest.raises(Unavailable, match="is not complete: relay journal copy with --last"):
        await start(target)
    assert source.read_bar() == ""


@BOTH
@pytest.mark.parametrize("place", ["records", "rows"])
async def test_a_last_pass_that_was_cut_off_in_the_middle_is_repeated(source: Side, target: Side, place: str) -> None:
    before, read_part, read_rows = read_all(source), source.read_part, source.read_rows

    def cut_part(partition: int, base: int) -> Iterator[StoredRecord]:
        yield from islice(read_part(partition, base), 2 if base == 280 else None)
        if base == 280:
            raise CutOff

    def cut_rows(partition: int, table: str, columns: Sequence[str]) -> Iterator[Row]:
        yield from islice(read_rows(partition, table, columns), 1)
        if table == "erasure":
            raise CutOff

    if place == "records":
        source.read_part = cut_part
    else:
        source.read_rows = cut_rows
    with pytest.raises(CutOff):
        copy_all(source, target, ignore)
    assert (source.read_bar(), bool(target.read_bar())) == ("", True)
    source.read_part, source.read_rows = read_part, read_rows
    assert copy_all(source, target, ignore).problems == []
    assert read_all(target) == before


async def test_two_copies_into_one_folder_are_kept_apart(source: Side, tmp_path: Path) -> None:
    folders = [EmbeddedSide(tmp_path / "target", PATH) for _ in range(2)]
    with closing(folders[0]), closing(folders[1]):
        copy_logs(source, folders[0], ignore)
        with pytest.raises(Unavailable, match="is in use by another"):
            copy_logs(source, folders[1], ignore)


@BOTH
async def test_new_events_and_changed_parts_are_copied_again(source: Side, target: Side, state: Path) -> None:
    """A part that an erasure has rewritten must not stay in the target as it was."""
    copy_logs(source, target, ignore)
    await append(state, 0, 10)
    changed = source.list_parts(0)[1]
    path = state / PATH / f"{changed.base:020d}.log"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    found = copy_logs(source, target, ignore)
    assert [(one.parts, one.there) for one in found] == [(3, 1), (1, 2)]  # a start touches the newest
    copy_all(source, target, ignore)
    assert read_all(target)["0 records"] == read_all(source)["0 records"]


@BOTH
async def test_users_that_are_erased_between_two_passes_leave_the_copy(source: Side, target: Side) -> None:
    log, state = source.store.open(0, LIMITS, 1 << 20)
    await log.append(KINDS[:1] * 2, [b'{"user":{"user_id":"anna"}}', b'{"user":{"user_id":"bert"}}'])
    copy_logs(source, target, ignore)
    assert holds(target, b"anna")
    async for _ in log.erase(Wanted({1: User("anna")}), log.head):
        pass
    await state.save({}, log.head)
    await log.close()
    state.close()
    copy_all(source, target, ignore)
    assert (holds(target, b"anna"), holds(target, b"bert")) == (False, True)


def holds(side: Side, text: bytes) -> bool:
    """Return whether the copied events of the first partition hold this text."""
    parts = [part.base for part in side.list_parts(0)]
    return any(text in record.body for base in parts for record in side.read_part(0, base))


async def test_parts_that_have_left_the_source_leave_the_target(source: Side, target: Side, state: Path) -> None:
    copy_logs(source, target, ignore)
    (state / PATH / f"{0:020d}.log").unlink()
    assert [one.removed for one in copy_logs(source, target, ignore)] == [1, 0]
    assert [part.base for part in target.list_parts(0)] == [280, 560]


async def test_there_and_back_is_the_same(source: Side, target: Side, state: Path) -> None:
    before = read_all(source)
    copy_all(source, target, ignore)
    back = copy_all(target, source, ignore)
    assert (back.problems, read_all(source)) == ([], before)
    assert source.read_bar() == ""
    await start(source)


async def test_a_last_pass_is_refused_while_a_relay_works(source: Side, target: Side) -> None:
    log, opened = source.store.open(1, LIMITS, 1 << 20)
    copy_logs(source, target, ignore)
    with pytest.raises(Unavailable, match="a relay works with") as caught:
        copy_all(source, target, ignore)
    assert (caught.value.reason, source.read_bar()) == ("busy", "")
    await log.close()
    opened.close()


def test_a_node_of_a_cluster_stops_before_the_last_pass(source: Side, target: Side) -> None:
    """Also a node that comes while the last pass is under way, and goes."""
    copy_all(source, target, ignore)
    membership = target.store.join(0)
    assert [one.parts for one in copy_logs(target, source, ignore)] == [3, 3]
    with pytest.raises(Unavailable, match=r"node .+ works with PostgreSQL .+: stop it first"):
        copy_all(target, source, ignore)
    membership.leave()

    def come_and_go(*progress: int) -> None:
        target.store.join(0).leave()

    with pytest.raises(Unavailable, match=r"a relay has worked with .+ meanwhile"):
        copy_all(target, source, come_and_go)
    assert copy_all(target, source, ignore).problems == []


def test_a_journal_whose_end_is_missing_is_no_source(source: Side, target: Side, state: Path) -> None:
    """A start finds out what is lost, and saves it."""
    (state / PATH / f"{560:020d}.log").unlink()
    with pytest.raises(Unavailable, match=r"offsets 560 to 839 are missing.+; start relay once, and stop relay again"):
        copy_all(source, target, ignore)


async def test_a_target_with_data_of_another_origin_is_refused(source: Side, target: Side, tmp_path: Path) -> None:
    make_state(tmp_path / "other", workers=1)
    other = EmbeddedSide(tmp_path / "other", PATH)
    with pytest.raises(Unavailable, match="holds a journal with which relay works"):
        copy_logs(source, other, ignore)
    copy_logs(other, target, ignore)
    with pytest.raises(Unavailable, match="holds another journal"):
        copy_all(source, target, ignore)
    assert source.read_bar() == ""


async def test_a_store_that_relay_has_left_is_no_source(source: Side, target: Side, tmp_path: Path) -> None:
    copy_all(source, target, ignore)
    with pytest.raises(Unavailable, match="relay goes on there"):
        copy_logs(source, EmbeddedSide(tmp_path / "third", PATH), ignore)
    with pytest.raises(Unavailable, match=r"was copied to .+ by the last pass at .+, and relay goes on there"):
        copy_all(source, target, ignore)


async def test_a_last_pass_that_ended_before_the_target_opened_is_repeated(source: Side, target: Side) -> None:
    before = read_all(source)

    def fail() -> None:
        raise CutOff

    unbar, target.unbar = target.unbar, fail
    with pytest.raises(CutOff):
        copy_all(source, target, ignore)
    assert source.read_bar()
    assert target.read_bar()
    target.unbar = unbar
    assert copy_all(source, target, ignore).problems == []
    assert read_all(target) == before


async def test_a_difference_lets_relay_stay_where_it_was(source: Side, target: Side) -> None:
    put_part = target.put_part

    def lose_some(partition: int, part: LogPart, records: Iterable[StoredRecord]) -> None:
        put_part(partition, part, [record for record in records if record.offset != 287])

    target.put_part = lose_some
    result = copy_all(source, target, ignore)
    assert result.problems[0] == "partition 0: the audits differ: connectors, balances"
    assert (bool(target.read_bar()), source.read_bar()) == (True, "")


def damage(state: Path) -> None:
    """Damage a record in the middle of the second segment."""
    path = state / PATH / f"{280:020d}.log"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def read_offsets(side: Side) -> list[int]:
    """Return the readable offsets of the first partition, as commands read them."""
    return [offset for _, block in side.store.view(0).view_log().read() for offset in block.offsets]


@BOTH
async def test_damage_is_carried_as_damage(source: Side, target: Side, state: Path) -> None:
    damage(state)
    result = copy_all(source, target, ignore)
    (there, here), _ = result.audits.values()
    assert (result.problems, there.balances, here.balances) == ([], False, False)
    assert 0 < len(read_offsets(target)) < 840
    assert target.store.view(0).view_log().survey().kept == source.store.view(0).view_log().survey().kept


@BOTH
async def test_what_a_repair_could_not_save_stays_lost(source: Side, target: Side, state: Path) -> None:
    damage(state)
    (done,) = repair(state / PATH, 840)
    result = copy_all(source, target, ignore)
    (there, here), _ = result.audits.values()
    assert (result.problems, here.problems) == ([], there.problems)
    assert 840 - done.lost_events == len(read_offsets(target))
    assert sum(part.lost for part in target.store.view(0).view_log().check()) == done.lost_events
    assert copy_all(target, source, ignore).problems == []
