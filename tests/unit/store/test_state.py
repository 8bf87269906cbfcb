"""The promises of a state, on every engine."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from relay.store import (
    Attempts,
    Counts,
    Cursor,
    Damage,
    Parked,
    ParkedLimits,
    Refusals,
    Replay,
    SourceLedger,
    State,
    Unavailable,
    measure_parked,
)
from tests.unit.store.state_engines import StateEngine, make_engine

CURSOR = Cursor(2, 7, [(8, 10)], Counts(delivered=4, filtered=2, damaged=1))


@pytest.fixture(params=["embedded", "postgres", "toy"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateEngine]:
    engine = make_engine(request.param, tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def state(engine: StateEngine) -> State:
    return engine.open()


def reopen(engine: StateEngine) -> State:
    engine.close()
    return engine.open()


def refused(offset: int, connector: str = "heap", **fields: Any) -> Parked:
    parked = Parked("braze", connector, offset, "a.b", "refused", "HTTP 400", 1, b'{"n":%d}' % offset)
    return replace(parked, **fields)


def unreadable(number: int, **fields: Any) -> Parked:
    return Parked("braze", None, None, None, "unreadable", "no id", 0, b"%d" % number, **fields)


def attempts(offset: int, number: int = 1, answer: str = "HTTP 503") -> Attempts:
    return Attempts("heap", 0, [(offset, offset + 2)], number, "pending", answer, 1.0, 2.0)


async def offsets_of_marked(state: State, events: int = 10, size: int = 1000, **among: Any) -> list[int | None]:
    return [one.offset for one in await state.read_marked("heap", events, size, **among)]


async def test_a_saved_cursor_is_read_with_its_counts_after_a_restart(engine: StateEngine) -> None:
    state = engine.open()
    assert await state.load_cursor("heap") is None
    await state.save({"heap": CURSOR, "file": Cursor(0, 3)}, 12)
    state = reopen(engine)
    assert await state.load_cursor("heap") == CURSOR
    await state.save({"file": Cursor(0, 4)}, 13)
    first, second = await state.read_lane_ledgers()
    assert (first.connector, first.head, first.cursor) == ("file", 13, Cursor(0, 4))
    assert (second.connector, second.head, second.cursor) == ("heap", 12, CURSOR)


async def test_a_cursor_that_moves_on_after_the_save_is_not_saved(state: State) -> None:
    cursor = Cursor(0, 3)
    await state.save({"heap": cursor}, 5)
    cursor.settle(3, 5, Counts(delivered=2))
    assert await state.load_cursor("heap") == Cursor(0, 3)


async def test_a_checkpoint_saves_everything_in_one_transaction(engine: StateEngine, state: State) -> None:
    number = engine.ask_replay(Replay("heap", Cursor(0, 0), 9))
    await state.park([refused(1), refused(2)])
    engine.mark(1)
    marked = await state.read_marked("heap", 10, 1000)
    damage = Damage(3, 5, "0.log", "bad checksum", saved=None)
    await state.save({"heap": CURSOR}, 12, marked, {number: Cursor(0, 4)}, [attempts(6)], [damage])
    state = reopen(engine)
    assert await state.load_cursor("heap") == CURSOR
    assert [one.offset for one in engine.list_parked()] == [2]
    assert [one.cursor for one in await state.read_replays()] == [Cursor(0, 4)]
    assert engine.find_attempts(7) == [attempts(6)]
    assert [offset for offset in range(7) if engine.was_damaged(offset)] == [3, 4]


class FailsWhenRead(Sequence[Any]):
    """What a transaction reads last, so that the transaction fails behind everything else."""

    def __getitem__(self, index: Any) -> Any:
        raise Unavailable("planted")

    def __len__(self) -> int:
        return 1


async def test_a_checkpoint_that_fails_at_its_end_changes_nothing(engine: StateEngine, state: State) -> None:
    number = engine.ask_replay(Replay("heap", Cursor(0, 0), 9))
    await state.park([refused(1)])
    engine.mark(1)
    marked = await state.read_marked("heap", 10, 1000)
    await state.save({"heap": Cursor(0, 1)}, 12)
    for planted in ({"damage": FailsWhenRead()}, {"attempts": FailsWhenRead()}):
        with pytest.raises(Unavailable, match="planted"):
            await state.save({"heap": CURSOR, "new": CURSOR}, 12, marked, {number: Cursor(0, 9)}, **planted)
        assert state.refusing == "planted"
        assert (await state.load_cursor("heap"), await state.load_cursor("new")) == (Cursor(0, 1), None)
        assert [one.cursor for one in await state.read_replays()] == [Cursor(0, 0)]
        assert [one.offset for one in engine.list_parked()] == [1]
        assert state.refusing is None


async def test_attempts_at_the_same_events_are_one_and_keep_an_answer(engine: StateEngine, state: State) -> None:
    await state.save({}, 9, attempts=[attempts(1), attempts(3)])
    await state.save({}, 9, attempts=[replace(attempts(1, 2, answer=""), outcome="delivered")])
    assert engine.find_attempts(1) == [replace(attempts(1, 2), outcome="delivered")]
    await state.forget_attempts(2)
    assert len(engine.find_attempts(2)) == 1
    await state.forget_attempts(3)
    assert engine.find_attempts(2) == []
    assert engine.find_attempts(3) == [attempts(3)]


async def test_an_event_parked_again_keeps_number_and_time_without_its_mark(engine: StateEngine, state: State) -> None:
    assert await state.park([refused(1), refused(2)]) == [1, 2]
    (before, _) = engine.list_parked()
    engine.mark(1)
    assert await state.park([refused(1, reason="HTTP 413", attempts=3, body=b"{}")]) == [1]
    (after, _) = engine.list_parked()
    assert (after.number, after.first, after.attempts, after.reason) == (1, before.first, 4, "HTTP 413")
    assert (after.again, after.last >= before.last) == (None, True)


async def test_a_mark_that_was_made_while_the_event_was_tried_stays(engine: StateEngine, state: State) -> None:
    await state.park([refused(1), refused(2)])
    began = time.time()
    engine.mark(2)
    await state.park([refused(1, first=began), refused(2, first=began)])
    assert [one.again is None for one in engine.list_parked()] == [True, False]


async def test_parts_connectors_and_unreadable_entries_are_parked_apart(engine: StateEngine, state: State) -> None:
    parked = [refused(1), refused(1, part=1), refused(1, "file"), unreadable(1), unreadable(1)]
    assert await state.park(parked) == [1, 2, 3, 4, 5]
    assert [(one.connector, one.part, one.body) for one in engine.list_parked()] == [
        (one.connector, one.part, one.body) for one in parked
    ]


async def test_a_number_is_not_given_twice_not_even_after_a_restart(engine: StateEngine, state: State) -> None:
    await state.unpark(await state.park([refused(1), refused(2)]))
    assert engine.list_parked() == []
    state = reopen(engine)
    assert await state.park([refused(1)]) == [3]
    later = engine.open(1)
    assert (await later.park([refused(1)]))[0] > 1_000_000


async def test_marked_events_come_in_order_within_limits_and_at_least_one(engine: StateEngine, state: State) -> None:
    await state.park([refused(offset) for offset in (5, 3, 4, 1)] + [refused(2, "file")])
    assert await offsets_of_marked(state) == []
    engine.mark(1, 2, 3, 5)
    assert await offsets_of_marked(state) == [3, 4, 5]
    assert await offsets_of_marked(state, events=2) == [3, 4]
    assert await offsets_of_marked(state, size=14) == [3, 4]
    assert await offsets_of_marked(state, size=1) == [3]
    assert await offsets_of_marked(state, offsets=[4, 5, 9]) == [4, 5]


async def test_of_each_key_only_the_first_marked_event_comes(engine: StateEngine, state: State) -> None:
    """An event that is not to be replayed holds up its key, and what was parked for its order follows by itself."""
    behind = [refused(4, key="ann", cause="order"), refused(5, key="ben", cause="order"), refused(6)]
    await state.park([refused(1, key="ann"), refused(2, key="ben"), refused(3, key="ann"), *behind])
    engine.mark(1, 3, 6)
    assert await offsets_of_marked(state) == [1, 6]
    await state.unpark([1, 2])
    assert await offsets_of_marked(state) == [3, 5, 6]
    assert await state.read_parked_keys("heap") == {"ann", "ben"}
    assert await state.read_parked_keys("heap", but=[5]) == {"ann"}


async def test_a_replayed_event_that_failed_meanwhile_stays_parked(engine: StateEngine, state: State) -> None:
    await state.park([refused(1), refused(2)])
    engine.mark(1, 2)
    marked = await state.read_marked("heap", 10, 1000)
    await state.park([refused(2)])
    await state.save({}, 3, marked)
    assert [one.offset for one in engine.list_parked()] == [2]


async def test_what_a_replay_has_parked_is_not_what_the_lane_has_parked(state: State) -> None:
    await state.park([refused(1), refused(1, part=1), refused(2, replay=7), refused(5), refused(6, "file")])
    assert await state.read_parked_places("heap", [1, 2, 6]) == {(1, 0), (1, 1)}
    found = await state.read_parked_in("heap", [(0, 2), (5, 9)])
    assert sorted((one.offset, one.part, one.body) for one in found) == [(1, 0, b""), (1, 1, b""), (5, 0, b"")]


async def test_max_size_removes_oldest_unreadable_events_first_no_marked(engine: StateEngine, state: State) -> None:
    await state.park([refused(n) for n in range(3)])
    await state.park([unreadable(n) for n in range(2)])
    engine.mark(1)
    size = measure_parked("HTTP 400", "", None, b'{"n":0}')
    state.parked_limits = ParkedLimits(max_size=4 * size)
    before = await state.changes()
    while await state.remove_parked():
        pass
    assert [one.number for one in engine.list_parked()] == [1, 2, 3, 5]
    assert await state.changes() != before
    state.parked_limits = ParkedLimits(max_size=2 * size)
    while await state.remove_parked():
        pass
    assert [one.number for one in engine.list_parked()] == [1, 3]
    assert {name: removed.counts for name, removed in state.removals.items()} == {
        "max_size": {"source braze": 2, "heap": 1}
    }
    await state.park([refused(9)])
    assert [one.offset for one in engine.list_parked()] == [0, 9]


async def test_a_request_above_max_size_is_parked_and_leaves_with_the_next(engine: StateEngine, state: State) -> None:
    state.parked_limits = ParkedLimits(max_size=5 * measure_parked("no id", "", None, b"0"))
    await state.park([unreadable(n) for n in range(10)])
    assert len(engine.list_parked()) == 10
    await state.park([unreadable(0)])
    assert [one.number for one in engine.list_parked()] == [7, 8, 9, 10, 11]


async def test_events_parked_longer_than_retention_leave_unless_marked(engine: StateEngine, state: State) -> None:
    await state.park([refused(1), refused(2)])
    engine.mark(2)
    state.parked_limits = ParkedLimits(retention=3600)
    assert not await state.remove_parked()
    state.parked_limits = ParkedLimits(retention=1e-6)
    assert await state.remove_parked()
    assert [one.offset for one in engine.list_parked()] == [2]


async def test_a_replay_goes_on_until_its_stop_and_is_over_then(engine: StateEngine, state: State) -> None:
    asked = Replay("heap", Cursor(2, 2), 9, ["a.*"], 5.0, asked_by="me")
    first, second, third = engine.ask_replay(asked), engine.ask_replay(asked), engine.ask_replay(asked)
    (open_one, *_) = await state.read_replays()
    assert open_one == replace(asked, number=third)
    await state.save({}, 9, replays={first: Cursor(2, 5, [(6, 7)], Counts(expired=4)), second: Cursor(2, 9)})
    engine.cancel_replay(third)
    state = reopen(engine)
    (left,) = await state.read_replays()
    assert (left.number, left.cursor) == (first, Cursor(2, 5, [(6, 7)], Counts(expired=4)))
    assert [one.status for one in engine.list_replays()] == ["cancelled", "done", "running"]


async def test_pauses_outlast_a_restart_and_end_by_themselves(engine: StateEngine, state: State) -> None:
    engine.pause("heap")
    engine.pause("file", until=time.time() + 3600)
    engine.pause("over", until=time.time() - 1)
    state = reopen(engine)
    pauses = await state.read_pauses()
    assert {*pauses} == {"heap", "file"}
    assert pauses["heap"].until is None


async def test_a_later_partition_takes_over_the_pauses_of_the_first(engine: StateEngine, state: State) -> None:
    engine.pause("heap")
    later = engine.open(1)
    pauses = await state.read_pauses()
    assert await later.read_pauses() in ({}, pauses), "an engine may have one pause for all partitions"
    await later.follow_pauses()
    assert await later.read_pauses() == pauses != {}


async def test_the_ledgers_and_memories_of_sources_outlast_a_restart(engine: StateEngine, state: State) -> None:
    refusing = SourceLedger("shop", 2, Refusals(1.0, 2.0, 503, "full", deadline=9.0))
    await state.save_sources([SourceLedger("braze", 3), refusing])
    await state.save_sources([SourceLedger("braze", 4)])
    await state.save_memory("braze", "one")
    await state.save_memory("braze", "two")
    state = reopen(engine)
    assert await state.read_sources() == {"braze": SourceLedger("braze", 4), "shop": refusing}
    assert await state.read_memories() == {"braze": "two"}


async def test_changes_tell_the_writes_of_others_only(engine: StateEngine, state: State) -> None:
    before = await state.changes()
    await state.park([refused(1)])
    await state.save({"heap": CURSOR}, 12)
    assert await state.changes() == before
    engine.mark(1)
    marked = await state.changes()
    assert marked != before
    engine.pause("heap")
    assert await state.changes() not in (before, marked)


async def test_a_state_that_is_opened_later_ends_the_earlier_one(engine: StateEngine, state: State) -> None:
    await state.save({"heap": Cursor(0, 1)}, 5)
    await state.park([refused(1)])
    before = await state.changes()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await state.await_taken()
    engine.end_lock()
    later = engine.open()
    assert await state.changes() != before
    state.parked_limits = ParkedLimits(max_size=1)  # there is something to remove
    for write in (
        lambda: state.save({"heap": Cursor(0, 2)}, 5),
        lambda: state.park([refused(2)]),
        lambda: state.unpark([1]),
        lambda: state.forget_attempts(9),
        lambda: state.save_memory("braze", "x"),
        lambda: state.save_sources([SourceLedger("braze", 1)]),
        state.remove_parked,
        lambda: state.load_cursor("heap"),
    ):
        with pytest.raises(Unavailable, match=r"another relay has opened|works with partition 0") as raised:
            await write()
        assert raised.value.reason == "taken"
    assert state.refusing == str(raised.value) == await state.await_taken()
    assert (await later.load_cursor("heap"), await later.read_memories()) == (Cursor(0, 1), {})
    assert [one.offset for one in engine.list_parked()] == [1]
    await later.save({"heap": Cursor(0, 3)}, 5)
    assert await later.load_cursor("heap") == Cursor(0, 3)


async def test_saved_cuts_are_appended_written_anew_and_removed(engine: StateEngine, state: State) -> None:
    cuts = state.open_cuts("heap")
    assert cuts.load() == []
    cuts.rewrite([b"[[0,5]]"])
    cuts.append(b"![[0,5]]")
    cuts.append(b"[[0,2]]")
    cuts.close()
    state = reopen(engine)
    cuts = state.open_cuts("heap")
    assert cuts.load() == [b"[[0,5]]", b"![[0,5]]", b"[[0,2]]"]
    assert state.open_cuts("heap", "7").load() == state.open_cuts("file").load() == []
    cuts.rewrite([b"[[0,2]]"])
    assert cuts.load() == [b"[[0,2]]"]
    cuts.close()
    cuts.remove()
    assert cuts.load() == []


async def test_the_cuts_of_replays_that_are_over_are_removed(state: State) -> None:
    parts = ("", "again", "7", "8")
    for part in parts:
        state.open_cuts("heap", part).rewrite([b"[[0,5]]"])
    await state.remove_cuts_of_replays([8])
    assert [part for part in parts if state.open_cuts("heap", part).load()] == ["", "again", "8"]


async def test_an_answer_comes_once_earlier_requests_have_ended(state: State) -> None:
    async with asyncio.timeout(60):
        await state.await_answer()
    assert state.busy_for == 0


async def test_a_closed_state_refuses_without_another_error(engine: StateEngine, state: State) -> None:
    engine.close()
    with pytest.raises(Unavailable):
        await state.load_cursor("heap")
