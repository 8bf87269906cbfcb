"""The promises of erasures, as one partition keeps them, on every engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from relay.api import OtherId, User
from relay.store import (
    Attempts,
    ConnectorAnswer,
    Counts,
    Cursor,
    Erasure,
    FailingErasures,
    Parked,
    State,
    Unavailable,
    Wanted,
    make_digest,
    merge_all,
)
from relay.testing import make_event
from tests.unit.store.state_engines import EmbeddedState, StateEngine, make_engine

ANNA = Wanted({1: User("anna", ("a1",))})


@pytest.fixture(params=["embedded", "postgres", "toy"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateEngine]:
    engine = make_engine(request.param, tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def state(engine: StateEngine) -> State:
    return engine.open()


def requested(user: str, offset: int, asked: float = 1.0) -> Erasure:
    return Erasure(asked=asked, type="users.UserDeleteRequest", source="braze", offset=offset, user=User(user))


def parked(offset: int | None, user: str, connector: str | None = "heap", **fields: Any) -> Parked:
    body = make_event(user={"user_id": user})
    return replace(Parked("braze", connector, offset, "a.b", "refused", "HTTP 400", 1, body), **fields)


def attempts(offset: int, answer: str) -> Attempts:
    return Attempts("heap", 0, [(offset, offset + 2)], 1, "pending", answer, 1.0, 2.0)


async def read_users(state: State) -> dict[int, User]:
    """The users of the open erasures, by number."""
    return {one.number: one.user for one in await state.erasures.read_open()}


async def erase(state: State) -> None:
    """Mark all open erasures as erased, by the ids known now."""
    await state.erasures.mark_erased([one for one in await state.erasures.read_open() if not one.compacted])


async def answer(state: State, *answers: ConnectorAnswer) -> None:
    """Save answers to the first erasure."""
    for one in answers:
        await state.erasures.save_answers(await state.erasures.read_open(), {1: one})


def test_a_problem_of_several_partitions_is_told_once() -> None:
    failed = Erasure(number=1, asked=1.0, user=User("anna"), problem="no room")
    (merged,) = merge_all([(0, failed), (1, failed), (2, replace(failed, problem=None))], "partition {}".format)
    assert merged.problem == "partition 0, partition 1: no room"


async def test_requests_identities_and_position_are_saved_together(engine: StateEngine, state: State) -> None:
    assert not await state.erasures.read_watch_position()
    await state.erasures.save_watch(7, [requested("anna", 3), requested("bert", 5)], [("anna", "a1"), ("anna", "a2")])
    await state.erasures.save_watch(9, [], [("anna", "a1"), ("carl", "c1")])
    engine.close()
    state = engine.open()
    assert await state.erasures.read_watch_position() == 9
    second, first = await state.erasures.read_open()
    assert (first.number, first.user, first.type, first.source, first.offset) == (
        *(1, User("anna"), "users.UserDeleteRequest", "braze", 3),
    )
    assert (second.number, second.status, second.digests) == (2, "waiting", [make_digest("bert")])
    assert await state.erasures.find_external_ids("anna") == {"a1", "a2"}
    assert await state.erasures.find_external_ids("bert") == set()


async def test_a_time_of_a_wrong_clock_is_corrected(state: State) -> None:
    await state.erasures.save_watch(1, [requested("anna", 3, 100.0), requested("bert", 5, 900.0)], [])
    await state.erasures.correct_asked(200.0, 500.0)
    assert {one.number: one.asked for one in await state.erasures.read_open()} == {1: 100.0, 2: 200.0}


async def test_found_ids_are_added_until_the_users_are_erased(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    engine.ask_erasure(User("bert"))
    device = OtherId("device_id", "phone")
    saved = await state.erasures.save_found_ids({1: User(None, ("a1",), (device,))})
    assert [(one.number, one.user) for one in saved] == [(1, User("anna", ("a1",), (device,)))]
    assert saved[0].digests == sorted(map(make_digest, ("anna", "a1", "phone")))
    await erase(state)
    assert await state.erasures.save_found_ids({1: User(None, ("a2",))}) == []
    assert await read_users(state) == {1: saved[0].user, 2: User("bert")}


async def test_ids_are_found_in_parked_events(state: State) -> None:
    ids = {"user_id": "anna", "external_user_id": "a1", "device_id": "phone"}
    await state.park([parked(3, "bert"), parked(4, "", body=make_event(user=ids))])
    found = await state.erasures.find_parked_ids(Wanted({1: User("anna")}))
    assert found == {1: User(None, ("a1",), (OtherId("device_id", "phone"),))}


async def test_counts_add_up_in_the_receipt(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    await state.erasures.add_counts({"events": {1: 3}, "changed": {1: 1}}, 10)
    await state.erasures.add_counts({"events": {1: 2}, "changed": {}}, 20)
    await state.erasures.add_counts({"events": {1: 0}}, 5)
    (one,) = await state.erasures.read_open()
    assert (one.events, one.changed, one.counted) == (5, 1, 20)


async def test_parked_events_of_a_user_count_as_erased_instead(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    await state.save({"heap": Cursor(0, 9, [], Counts(delivered=3, parked=6))}, 9)
    await state.park(
        [
            parked(1, "anna"),
            parked(2, "bert", reason="HTTP 400: no a1 here"),
            parked(3, "bert", key="anna"),
            parked(4, "bert"),
            parked(5, "bert"),
            parked(5, "anna", part=1),
            parked(12, "anna"),
            parked(1, "anna", "hook"),
            parked(None, "anna", None),
        ]
    )
    change = await state.erasures.erase_users("heap", ANNA, {4: frozenset({1})})
    assert change == Counts(parked=-3, erased=3), "offset 5 still has a part, and 12 has no outcome yet"
    assert await state.load_cursor("heap") == Cursor(0, 9, [], Counts(delivered=3, parked=3, erased=3))
    left = {(one.connector, one.offset, one.part): one.reason for one in engine.list_parked()}
    assert left == {
        ("heap", 2, 0): "HTTP 400: no ... here",
        ("heap", 5, 0): "HTTP 400",
        ("hook", 1, 0): "HTTP 400",
        (None, None, 0): "HTTP 400",
    }
    assert await state.erasures.erase_users(None, ANNA, {}) == Counts()
    assert [one.connector for one in engine.list_parked()] == ["heap", "heap", "hook"]
    (one,) = await state.erasures.read_open()
    assert (one.parked, one.unreadable) == (5, 1)
    assert await state.erasures.find_removed_connectors(["heap"]) == ["hook"]


async def test_answers_about_a_users_events_are_removed(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    texts = {1: "HTTP 400: a1 is odd", 4: "HTTP 503", 7: "HTTP 500", 9: "HTTP 502"}
    await state.save({}, 12, (), {}, [attempts(at, text) for at, text in texts.items()])
    await state.erasures.erase_users("heap", ANNA, {5: frozenset({1}), 9: frozenset({1})})
    assert {at: engine.find_attempts(at)[0].answer for at in texts} == {1: "", 4: "", 7: "HTTP 500", 9: ""}
    assert (await state.erasures.read_open())[0].attempts == 3


class FailsWhenRead(dict[int, frozenset[int]]):
    """Offsets that are read last, so that the transaction fails behind everything else."""

    def __getitem__(self, offset: int) -> Any:
        raise Unavailable("planted")

    def items(self) -> Any:
        raise Unavailable("planted")


async def test_an_erasure_of_rows_that_fails_at_its_end_changes_nothing(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    await state.save({"heap": Cursor(0, 9, [], Counts(parked=9))}, 9, (), {}, [attempts(5, "HTTP 503")])
    await state.park([parked(1, "anna"), parked(2, "anna")])
    with pytest.raises(Unavailable, match="planted"):
        await state.erasures.erase_users("heap", ANNA, FailsWhenRead({5: frozenset({1})}))
    assert [one.offset for one in engine.list_parked()] == [1, 2]
    assert await state.load_cursor("heap") == Cursor(0, 9, [], Counts(parked=9))
    assert ((await state.erasures.read_open())[0].parked, engine.find_attempts(5)[0].answer) == (0, "HTTP 503")


async def test_an_erasure_ends_with_a_receipt_without_ids(engine: StateEngine, state: State) -> None:
    await state.erasures.save_watch(1, [requested("anna", 0)], [("anna", "a1"), ("bert", "b1"), ("anne", "a1")])
    await state.erasures.save_found_ids({1: User(None, ("a1",))})
    await state.erasures.save_problem([1], "no room")
    (one,) = await state.erasures.read_open()
    assert (one.status, one.problem, await state.erasures.read_at_connectors()) == ("waiting", "no room", [])
    await state.erasures.forget_ids([1])
    await state.erasures.mark_done([1])
    assert await read_users(state) == {1: User("anna", ("a1",))}, "it is not that far"
    await erase(state)
    (one,) = await state.erasures.read_at_connectors()
    assert (one.status, one.problem, one.number) == ("at the connectors", None, 1)
    await answer(state, ConnectorAnswer("heap", "done", "a note"))
    await state.erasures.forget_ids([1])
    assert await state.erasures.read_at_connectors() == []
    await state.erasures.mark_done([1])
    assert await state.erasures.read_open() == []
    (one,) = engine.list_erasures()
    assert (one.status, one.user, len(one.digests)) == ("done", User(), 2)
    assert [(each.connector, each.outcome, each.reason) for each in one.answers] == [("heap", "done", "a note")]
    await state.erasures.overwrite_deleted()
    assert [engine.holds(one) for one in ("anna", "a1", "b1")] == [False, False, True]


async def test_an_erasure_that_got_an_id_meanwhile_begins_again(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    before = await state.erasures.read_open()
    await state.erasures.add_counts({"events": {1: 3}}, 10)
    await state.erasures.save_found_ids({1: User(None, ("a1",))})
    await state.erasures.mark_erased(before)
    (one,) = await state.erasures.read_open()
    assert (one.compacted, one.events, one.counted) == (None, 3, 0)
    await state.erasures.mark_erased([one])
    asked = await state.erasures.read_open()
    await state.erasures.share(asked)  # to nobody
    other = engine.open(1)
    await other.erasures.share([replace(asked[0], user=User("anna", ("a2",)), digests=[make_digest("a2")])])
    await state.erasures.save_answers(asked, {1: ConnectorAnswer("heap", "done")})
    (one,) = await state.erasures.read_open()
    assert (one.status, one.user, [*one.answers]) == ("waiting", User("anna", ("a1", "a2")), [])


async def test_failures_at_connectors_are_listed_until_they_are_over(engine: StateEngine, state: State) -> None:
    engine.ask_erasure(User("anna"))
    await erase(state)
    failed = ConnectorAnswer("heap", "failed", "HTTP 503")
    await answer(state, failed, replace(failed, reason="HTTP 401"), ConnectorAnswer("hook", "skipped"))
    (one,) = await state.erasures.read_open()
    assert [(each.connector, each.outcome, each.reason, each.attempts) for each in one.answers] == [
        ("heap", "failed", "HTTP 401", 2),
        ("hook", "skipped", "", 1),
    ]
    assert await state.erasures.find_failing_at_connectors() == [
        FailingErasures("heap", 1, one.compacted or 0.0, "HTTP 401")
    ]
    await state.erasures.forget_failed()
    assert await state.erasures.find_failing_at_connectors() == []
    assert [each.connector for each in (await state.erasures.read_open())[0].answers] == ["hook"]


async def test_every_partition_erases_by_all_ids_that_any_knows(engine: StateEngine, state: State) -> None:
    other = engine.open(1)
    engine.ask_erasure(User("anna"))
    for _ in range(2):
        await state.erasures.share(await state.erasures.read_open())
    assert await read_users(other) == await read_users(state) == {1: User("anna")}
    await erase(state)
    await answer(state, ConnectorAnswer("heap", "done"), ConnectorAnswer("hook", "failed"))
    learnt = await other.erasures.save_found_ids({1: User(None, ("a1",))})
    await other.erasures.share(learnt)
    (one,) = await state.erasures.read_open()
    assert (one.status, one.user) == ("waiting", User("anna", ("a1",)))
    assert [each.connector for each in one.answers] == ["hook"], "heap is called again"
    await erase(state)
    await other.erasures.share(learnt)
    assert (await state.erasures.read_open())[0].compacted, "nothing is new"
    for each in (state, other):
        await erase(each)
        await each.erasures.forget_ids([1])
        assert engine.list_erasures()[0].status != "done"
        await each.erasures.mark_done([1])
    (one,) = engine.list_erasures()
    assert (one.status, [*one.workers]) == ("done", [0, 1])


async def test_a_connector_waits_for_the_other_partitions_at_work(engine: StateEngine, state: State) -> None:
    other = engine.open(1)
    engine.ask_erasure(User("anna"))
    await state.erasures.share(await state.erasures.read_open())
    await erase(state)
    assert await state.erasures.find_held_elsewhere("heap", [1]) == {1: False}
    assert await state.erasures.find_held_elsewhere("heap", [2]) == {}
    await erase(other)
    await answer(other, ConnectorAnswer("heap", "failed", "a thread hangs"))
    assert await state.erasures.find_held_elsewhere("heap", [1]) == {1: True}
    await answer(other, ConnectorAnswer("heap", "done"))
    assert await state.erasures.find_held_elsewhere("heap", [1]) == {}
    assert await state.erasures.find_held_elsewhere("hook", [1]) == {1: False}
    engine.opened.pop().close()
    assert await state.erasures.find_held_elsewhere("hook", [1]) == {}
    engine.ask_erasure(User("bert"))
    await state.erasures.share(await state.erasures.read_open())
    await erase(state)
    whoever_opens_it_may_send = {} if isinstance(engine, EmbeddedState) else {2: False}
    assert await state.erasures.find_held_elsewhere("hook", [1, 2]) == whoever_opens_it_may_send
