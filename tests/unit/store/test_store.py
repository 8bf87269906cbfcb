"""What every engine of the store promises. `relay.store.store` has the words."""

import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.api import Kind, User
from relay.config.model import JournalSettings
from relay.engine import open_store
from relay.inspect.audit import audit_all
from relay.inspect.type_counts import count_types, merge_counts
from relay.postgres.store import PostgresStore
from relay.state.layout import DATABASE
from relay.store import (
    NUMBERS,
    AlertMessage,
    Attempts,
    Counts,
    Cursor,
    Damage,
    Entry,
    EventIds,
    HistoryQuery,
    JournalLimits,
    Log,
    Parked,
    ParkedQuery,
    Refusals,
    Replay,
    SourceLedger,
    State,
    Store,
    Unavailable,
    Wanted,
    find_partition,
    name_partition,
)
from tests.postgres import start_shared_pooler, start_shared_server
from tests.toy_store.store import ToyStore

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(max_size=64 << 20, retention=3600)
NOON = 1_790_000_000.0
EVERY = ParkedQuery()
TAKEN = "another relay has opened|works with partition 0"


@pytest.fixture(params=["embedded", "postgres", "toy", "shared toy"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that no relay has run with."""
    if request.param == "embedded":
        yield open_store(tmp_path, JournalSettings())
    elif request.param == "postgres":
        with closing(make_postgres_store(tmp_path, monkeypatch)) as made:
            yield made
    else:
        yield ToyStore(partitions=2 if request.param == "shared toy" else 0)


def make_postgres_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> PostgresStore:
    """Make the tables of a cluster with 2 partitions; return its store, behind a pooler in transaction mode."""
    monkeypatch.setenv("RELAY_DSN", start_shared_pooler().dsn)
    with closing(start_shared_server().make_database(partitions=2)) as database:
        schema = database.schema[1:-1]
    settings = JournalSettings(backend="postgres", dsn={"env": "RELAY_DSN"}, schema=schema, node="a", partitions=2)
    return PostgresStore(settings, folder)


@pytest.fixture
async def opened(store: Store) -> AsyncIterator[tuple[Log, State]]:
    """The first partition, with a second one that has run before."""
    await run(store, 1)
    log, state = store.open(0, LIMITS, 1 << 20)
    yield log, state
    await log.close()
    state.close()


async def run(store: Store, partition: int) -> None:
    """Open a partition and close it again."""
    log, state = store.open(partition, LIMITS, 1 << 20)
    await log.close()
    state.close()


def parked(connector: str | None, offset: int | None = None, cause: str = "refused", **more: object) -> Parked:
    return Parked("braze", connector, offset, "Open", cause, "a reason", 1, b"{}", last=NOON, **more)


async def find_bodies(store: Store) -> dict[int, list[bytes]]:
    """Return the events of each partition that has any."""
    found = {
        partition.number: [body for _, block in partition.view_log().read() for body in block.bodies()]
        for partition in store.view_all()
    }
    return {number: bodies for number, bodies in found.items() if bodies}


def end_lock(store: Store, folder: Path) -> Store:
    """Let another process open what is open; return its store."""
    if isinstance(store, ToyStore):
        store.books[0].is_in_use = False
    if isinstance(store, PostgresStore):
        start_shared_server().execute(f"UPDATE {store.schema}.lease SET until = '-infinity'")
        return PostgresStore(store.settings, folder)
    for lock in folder.rglob("lock"):
        lock.unlink()
    return store


async def test_a_partition_that_is_opened_later_ends_the_earlier_one(store: Store, tmp_path: Path) -> None:
    log, state = store.open(0, LIMITS, 1 << 20)
    await log.append([KIND], [b"1"])
    other = end_lock(store, tmp_path)
    later_log, later = other.open(0, LIMITS, 1 << 20)
    erasing = log.erase(Wanted({1: User("anna")}), 1)
    for write in (state.save({}, 1), log.append([KIND], [b"2"]), log.keep(1), anext(erasing), state.read_pauses()):
        with pytest.raises(Unavailable, match=TAKEN) as raised:
            await write
        assert raised.value.reason == "taken"
    assert log.refusing == state.refusing == str(raised.value)
    await log.close()
    state.close()
    assert later_log.head == await later_log.append([KIND], [b"3"]) == 1
    await later.save({}, 2)
    await later_log.close()
    later.close()
    if isinstance(other, PostgresStore):
        other.close()
    assert [body for _, block in store.view().view_log().read() for body in block.bodies()] == [b"1", b"3"]


async def test_a_partition_is_opened_by_one_process_at_a_time(store: Store) -> None:
    log, state = store.open(0, LIMITS, 1 << 20)
    assert (store.view().is_in_use(), store.view().find_process()) == (True, os.getpid())
    with pytest.raises(Unavailable, match="is in use by another relay"):
        store.open(0, LIMITS, 1 << 20)
    other_log, other = store.open(1, LIMITS, 1 << 20)
    await log.close()
    await other_log.close()
    state.close()
    other.close()
    assert [(one.number, one.is_in_use()) for one in store.view_all()] == [(0, False), (1, False)]
    await run(store, 0)


async def test_a_process_runs_its_share_of_the_partitions(store: Store) -> None:
    shares = [store.join(worker) for worker in (0, 1)]
    wanted = [{*share.find_wanted()} for share in shares]
    assert wanted == [{0}, {1}]
    for partition in (0, 1):
        await run(store, partition)
    shares[1].leave()
    assert {*shares[0].find_wanted()} == {*range(store.shared_partitions or 1)}


async def test_a_partition_that_opens_knows_the_users_to_erase(store: Store) -> None:
    for partition in (0, 1):
        await run(store, partition)
    store.erasures.ask(User("anna"))
    log, state = store.open(1, LIMITS, 1 << 20)
    assert [one.user for one in await state.erasures.read_open()] == [User("anna")]
    await log.close()
    state.close()


async def test_events_taken_in_are_in_the_partitions_of_the_process(store: Store) -> None:
    mine = 1 if store.shared_partitions else 0
    log, state = store.open(mine, LIMITS, 1 << 20)
    inbox = store.open_inbox(mine, LIMITS)
    tapped: list[bytes] = []
    inbox.events.taps.add(lambda block: tapped.extend(block.bodies()))
    assert await inbox.events.append([KIND], [b"1"]) == 0
    assert (tapped, log.head, await find_bodies(store)) == ([b"1"], 1, {mine: [b"1"]})
    await inbox.first.append([KIND], [b"2"])
    assert (tapped, inbox.events.bytes, inbox.events.failed, inbox.events.refusing) == ([b"1", b"2"], 2, 0, None)
    await inbox.close()
    await log.close()
    state.close()


async def test_duplicates_are_known_to_the_whole_inbox(store: Store) -> None:
    mine = 1 if store.shared_partitions else 0
    log, state = store.open(mine, LIMITS, 1 << 20)
    inbox = store.open_inbox(mine, LIMITS)
    for appender, name, body, expected in (
        (inbox.events, "a", b"1", [0]),
        (inbox.first, "a", b"2", []),
        (inbox.first, "b", b"3", [0]),
        (inbox.events, "b", b"4", []),
    ):
        async with appender.append_new([KIND], [body], EventIds("braze", [name], 60.0)) as fresh:
            assert [*fresh] == expected
    assert await find_bodies(store) == ({0: [b"3"], 1: [b"1"]} if store.shared_partitions else {0: [b"1", b"3"]})
    await inbox.close()
    await log.close()
    state.close()


async def test_what_sources_leave_is_kept_by_the_inbox(store: Store, opened: tuple[Log, State]) -> None:
    inbox = store.open_inbox(0, LIMITS)
    numbers = await inbox.sources.park([parked(None), parked(None)])
    await inbox.sources.unpark(numbers[:1])
    assert [one.number for one in store.parked.read(EVERY)] == numbers[1:]
    await inbox.sources.save_sources([SourceLedger("braze", 3)])
    await inbox.sources.save_memory("braze", "a sync")
    assert await inbox.sources.read_sources() == {"braze": SourceLedger("braze", 3)}
    assert await inbox.sources.read_memories() == {"braze": "a sync"}
    await inbox.close()


@pytest.mark.parametrize("store", ["postgres", "shared toy"], indirect=True)
async def test_an_inbox_takes_events_in_without_a_partition(store: Store) -> None:
    inbox = store.open_inbox(0, LIMITS)
    await inbox.events.append([KIND], [b"1"])
    await inbox.first.append([KIND], [b"2"])
    log, state = store.open(0, LIMITS, 1 << 20)
    await inbox.first.append([KIND], [b"3"])
    assert sorted(body for bodies in (await find_bodies(store)).values() for body in bodies) == [b"1", b"2", b"3"]
    await inbox.close()
    await log.close()
    state.close()


def test_a_store_without_a_run_says_so(store: Store) -> None:
    """Siblings: what is global, and what a partition has."""
    view = store.view()
    assert (view.is_in_use(), view.has_state(), view.read_lanes_if_any(), view.read_acknowledged()) == (
        False,
        False,
        [],
        0,
    )
    assert [one.number for one in store.view_all()] == [0]
    asked = [
        view.read_lanes,
        view.read_sources,
        store.pauses.read,
        store.replays.read,
        store.erasures.read,
        store.history.read,
        lambda: store.parked.count(EVERY),
        lambda: [*store.parked.read(EVERY)],
        lambda: store.pauses.pause("heap"),
        lambda: store.history.add([Entry("failing", "journal", "it fails")]),
    ]
    for one in asked:
        with pytest.raises(Unavailable, match="no relay has run") as caught:
            one()
        assert caught.value.reason == "missing"


async def test_a_bystander_sees_what_is_saved_while_a_process_works(store: Store, opened: tuple[Log, State]) -> None:
    log, state = opened
    first = await log.append([KIND] * 3, [b'{"id":"a"}', b'{"id":"b"}', b'{"id":"c"}'])
    assert first == 0
    settled = Cursor(0, 2, [], Counts(delivered=1, parked=1))
    tried = Attempts("heap", 0, [(0, 2)], 3, "pending", "503", NOON, NOON + 9)
    await state.save({"heap": settled}, log.head, attempts=[tried], damage=[Damage(2, 3, "x.log", "bad", 0)])
    await state.save_sources([SourceLedger("braze", 7, Refusals(NOON, NOON, 401, "no token", None))])
    await state.park([parked("heap", 1), parked(None, cause="unreadable")])
    view = store.view()
    (lane,) = view.read_lanes()
    assert (lane.connector, lane.head, lane.cursor.position, lane.ledger.pending) == ("heap", 3, 2, 1)
    assert (view.read_acknowledged(), view.has_work(), view.has_state()) == (3, True, True)
    assert [(one.source, one.duplicates) for one in view.read_sources()] == [("braze", 7)]
    assert {name: [*offsets] for name, offsets in view.read_parked_offsets().items()} == {"heap": [1]}
    assert [(one.offset, one.body) for one in view.find_parked_at([0, 1, 2])] == [(1, b"")]
    assert [one.attempts for one in view.find_attempts_at(1)] == [3]
    assert [view.was_damaged(offset) for offset in range(4)] == [False, False, True, False]
    events = [event.body for _, block in view.view_log().read() for event in block.events()]
    assert events == [b'{"id":"a"}', b'{"id":"b"}', b'{"id":"c"}']
    survey = view.view_log().survey()
    assert (survey.oldest, survey.kept[0][0], survey.kept[-1][1], [*survey.problems]) == (0, 0, 3, [])


async def test_a_pause_holds_in_every_partition_until_its_end(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    changes = await state.changes()
    assert (store.pauses.pause("heap"), store.pauses.pause("heap")) == (True, False)
    assert await state.changes() != changes
    until = time.time() + 3600
    assert (store.pauses.pause("heap", until), store.pauses.pause("heap", until)) == (True, False)
    assert (await state.read_pauses())["heap"].until == until
    log, other = store.open(1, LIMITS, 1 << 20)
    assert (await other.read_pauses())["heap"].until == until
    assert (store.pauses.resume("heap"), store.pauses.resume("heap"), store.pauses.read()) == (True, False, {})
    assert await other.read_pauses() == {}
    store.pauses.pause("over", time.time() - 1)
    assert store.pauses.read() == {}
    await log.close()
    other.close()


async def test_event_types_are_counted_over_all_partitions(store: Store, opened: tuple[Log, State]) -> None:
    log, _ = opened
    other, state = store.open(1, LIMITS, 1 << 20)
    await log.append([KIND, KIND, Kind("braze", "a.b")], [b"1", b"2", b"3"])
    await other.append([KIND], [b"4"])
    found = count_types(store, 0.0, {})
    counts = merge_counts(found.counted, 0.0, found.unread, found.problems)
    assert [(one.type, one.events, sum(one.days.values())) for one in counts.types] == [
        (KIND.type, 3, 3),
        ("a.b", 1, 1),
    ]
    assert counts.types[0].last == pytest.approx(time.time(), abs=600)
    assert {key.partition(" ")[0] for key in found.present} == {"0", "1"}
    parts = [part for view in store.view_all() for part in view.view_log().list_parts()]
    assert {part.stamp for part in parts if part.written > time.time() + 600} == {""}, "it takes events"
    await other.close()
    state.close()


async def test_parked_events_are_selected_over_all_partitions(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    await state.park([parked("heap", 1), parked("heap", 2, "gave_up"), parked(None, cause="unreadable")])
    log, other = store.open(1, LIMITS, 1 << 20)
    await other.park([parked("heap", 1), parked("hook", 2)])
    await log.close()
    other.close()
    numbers = [one.number for one in store.parked.read(EVERY)]
    assert [find_partition(number) for number in numbers] == [0, 0, 0, 1, 1]
    assert len({*numbers}) == 5
    wanted = {
        ParkedQuery(connector="heap"): 3,
        ParkedQuery(connector="heap", limit=2): 2,
        ParkedQuery(cause="unreadable"): 1,
        ParkedQuery(source="braze"): 5,
        ParkedQuery(source="other"): 0,
        ParkedQuery(numbers=tuple(numbers[3:])): 2,
        ParkedQuery(since=time.time() - 3600): 5,
        ParkedQuery(since=time.time() + 3600): 0,
    }
    for which, events in wanted.items():
        assert (store.parked.count(which), len([*store.parked.read(which)])) == (events, events), which
    assert {one.body for one in store.parked.read(EVERY, bodies=False)} == {b""}
    totals = {(one.connector, one.cause): one.events for one in store.parked.read_totals()}
    assert totals == {("heap", "refused"): 2, ("heap", "gave_up"): 1, (None, "unreadable"): 1, ("hook", "refused"): 1}
    assert sum(one.events for one in store.view(1).read_parked_totals()) == 2


async def test_the_newest_parked_events_come_first_behind_a_number(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    log, other = store.open(1, LIMITS, 1 << 20)
    for number, its in enumerate((state, other, state, other, state)):
        await its.park([parked("heap", number, first=NOON + number)])
        time.sleep(0.002)  # each has a time of its own
    await log.close()
    other.close()
    every = [*store.parked.read(EVERY, newest=True)]
    assert [one.offset for one in every] == [4, 3, 2, 1, 0]
    numbers = [one.number for one in every]
    store_and_page = [
        [one.number for one in store.parked.read(ParkedQuery(limit=2), newest=True, after=after, bodies=False)]
        for after in (None, numbers[1], numbers[3])
    ]
    assert store_and_page == [numbers[:2], numbers[2:4], numbers[4:]]
    (dropped,) = store.parked.drop(ParkedQuery(numbers=[numbers[1]]))
    behind = [one.number for one in store.parked.read(EVERY, newest=True, after=numbers[1])]
    assert (dropped, {*numbers[2:]} <= {*behind}, numbers[1] in behind) == (1, True, False)
    oldest = sorted(numbers[:1] + numbers[2:])
    assert [one.number for one in store.parked.read(EVERY, after=oldest[0])] == oldest[1:]
    assert [*store.parked.read(EVERY, newest=True, after=7 * NUMBERS)] != []


async def test_parked_events_are_grouped_over_all_partitions(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    log, other = store.open(1, LIMITS, 1 << 20)
    await state.park([parked("heap", 1, first=NOON), parked("heap", 2, "gave_up", first=NOON + 1)])
    await state.park([replace(parked(None, cause="unreadable"), type=None)])
    await other.park([parked("heap", 1, first=NOON - 5), parked("hook", 2)])
    await log.close()
    other.close()
    groups = store.parked.read_groups(EVERY)
    assert [(one.connector, one.cause, one.type, one.events) for one in groups[:1]] == [("heap", "refused", "Open", 2)]
    assert (len(groups), groups[0].first < groups[0].last, groups[0].reason) == (4, True, "a reason")
    largest = [*store.parked.read(ParkedQuery(connector="heap", cause="refused"))]
    assert (groups[0].first, groups[0].last) == (min(one.first for one in largest), max(one.last for one in largest))
    (unknown,) = store.parked.read_groups(ParkedQuery(type=""))
    assert (unknown.connector, unknown.type, unknown.events) == (None, None, 1)
    for which, events in (
        (ParkedQuery(type="Open"), 4),
        (ParkedQuery(reason="a reason"), 5),
        (ParkedQuery(until=1), 0),
    ):
        assert store.parked.count(which) == sum(one.events for one in store.parked.read_groups(which)) == events
        assert len([*store.parked.read(which)]) == events


async def test_parked_events_are_marked_and_dropped_for_good(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    await state.park([parked("heap", 1), parked("heap", 2), parked(None, cause="unreadable")])
    assert sum(store.parked.mark(EVERY)) == 2  # an event that was unreadable at its source has no connector
    assert [one.offset for one in await state.read_marked("heap", 10, 1 << 20)] == [1, 2]
    assert sum(store.parked.drop(ParkedQuery(connector="heap", limit=1))) == 1
    assert [one.offset for one in await state.read_marked("heap", 10, 1 << 20)] == [2]
    assert sum(store.parked.drop(EVERY)) == 2
    assert (store.parked.count(EVERY), store.parked.read_totals()) == (0, [])
    (number,) = await state.park([parked("heap", 9)])
    assert number > 3  # a number is never given again


async def test_replays_are_of_one_partition_and_end_when_cancelled(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    first = store.replays.ask(Replay("heap", Cursor(2, 2), 8, ("a.*",), 5.0, asked_by="anna", asked=NOON))
    second = store.replays.ask(Replay("heap", Cursor(0, 0), 4, asked=NOON + 1), 1)
    assert (find_partition(first), find_partition(second), second - NUMBERS) == (0, 1, first)
    (mine,) = await state.read_replays()
    assert (mine.number, mine.cursor.position, mine.stop, [*mine.entries], mine.rate) == (first, 2, 8, ["a.*"], 5.0)
    assert [one.number for one in store.replays.read()] == [second, first]
    view = store.view()
    assert [[one.number for one in view.find_replays_over(offset)] for offset in (1, 2, 7, 8)] == [
        [],
        [first],
        [first],
        [],
    ]
    assert [store.replays.cancel(number) for number in (first, first, second, 99)] == [True, False, True, False]
    assert (await state.read_replays(), {one.status for one in store.replays.read()}) == ([], {"cancelled"})


async def test_a_replay_that_has_come_to_its_stop_is_done(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    since = time.time()
    number = store.replays.ask(Replay("heap", Cursor(0, 0), 2))
    await state.save({}, 5, replays={number: Cursor(0, 1, [], Counts(delivered=1))})
    assert ([one.status for one in store.replays.read()], store.history.find_done(since)) == (["running"], [])
    await state.save({}, 5, replays={number: Cursor(0, 2, [], Counts(delivered=2))})
    assert [one.status for one in store.replays.read()] == ["done"]
    (done,) = store.history.find_done(since)
    assert (done.kind, done.about["number"]) == ("replay_done", number)
    store.history.add([done])
    assert store.history.find_done(since) == []


async def test_erasures_are_numbered_and_listed_the_newest_first(store: Store, opened: tuple[Log, State]) -> None:
    first = store.erasures.ask(User("anna"), "an admin")
    second = store.erasures.ask(User(None, ("b",)))
    assert second > first
    read = store.erasures.read()
    assert [(one.number, one.status, one.asked_by) for one in read] == [
        (second, "waiting", ""),
        (first, "waiting", "an admin"),
    ]
    assert [one.user for one in read] == [User(None, ("b",)), User("anna")]
    assert (store.erasures.find_failing(), store.erasures.count(0, NOON)) == ([], (0, 0, second))


async def test_the_history_keeps_its_order_and_its_limits(store: Store, opened: tuple[Log, State]) -> None:
    assert store.history.find_last_run() is None
    now = time.time()
    kinds = ["started", "failing", "recovered", "stopped"]
    made = [Entry(kind, "connector heap", kind, at=now - 10 + n, about={"n": n}) for n, kind in enumerate(kinds)]
    store.history.add([made[0], made[2], made[1], made[3]])  # as when another writes the entry of a moment before
    assert [one.kind for one in store.history.read()] == kinds
    assert len({one.number for one in store.history.read()}) == len(kinds)
    assert store.history.find_last_run() == ("stopped", now - 7)
    found = {
        HistoryQuery(limit=2): kinds[2:],
        HistoryQuery(kind="failing"): ["failing"],
        HistoryQuery(subject="heap"): kinds,
        HistoryQuery(subject="connector heap"): kinds,
        HistoryQuery(subject="hook"): [],
        HistoryQuery(since=now - 8.5): kinds[2:],
    }
    for query, expected in found.items():
        assert [one.kind for one in store.history.read(query)] == expected, query
    changed = {"said": ["connector hook: added"], "changed": ["connector hook", "source braze"]}
    store.history.add([Entry("reloaded", "relay", "reloaded", at=now - 9.9, about=changed)])
    for subject, expected in {"hook": 1, "connector hook": 1, "braze": 1, "source hook": 0, "heap": 4}.items():
        assert len(store.history.read(HistoryQuery(subject=subject))) == expected, subject
    store.history.add([Entry("failing", "journal", "last", at=now)], keep=8.5)
    assert [one.kind for one in store.history.read()] == ["recovered", "stopped", "failing"]
    store.history.add([], most=1)
    assert [one.sentence for one in store.history.read()] == ["last"]


async def test_alerts_are_remembered_until_they_are_forgotten(store: Store, opened: tuple[Log, State]) -> None:
    tracks = {("connector heap", "failing"): "{}"}
    waiting = AlertMessage("1", "mail", NOON, json.dumps({"title": "a"}))
    store.alerts.save_tracks("mail", tracks, [waiting])
    store.alerts.save_tracks("page", tracks, [])
    assert store.alerts.read(["mail", "new"]) == ({"mail": tracks, "new": {}}, [waiting])
    sent = replace(waiting, attempts=2, sent=NOON + 1)
    store.alerts.save_message(sent)
    store.alerts.save_message(replace(waiting, id="2"))
    assert [one.id for one in store.alerts.read(["mail"])[1]] == ["1", "2"]
    assert store.alerts.read(["mail"])[1][0] == sent
    store.alerts.save_tracks("mail", {}, [])
    assert store.alerts.read(["mail"])[0] == {"mail": {}}
    store.alerts.forget(["page"])
    assert store.alerts.read(["mail", "page"]) == ({"mail": {}, "page": tracks}, [])


async def test_forgetting_a_connector_removes_all_of_it_everywhere(store: Store, opened: tuple[Log, State]) -> None:
    for number, (its_log, its) in enumerate((opened, store.open(1, LIMITS, 1 << 20))):
        await its.save({"heap": Cursor(0, 1, [], Counts(parked=1)), "hook": Cursor(0, 0)}, 2 - number)
        await its.park([parked("heap", 0), parked("hook", 0)])
        if number:
            await its_log.close()
            its.close()
    store.pauses.pause("heap")
    store.replays.ask(Replay("heap", Cursor(0, 0), 1))
    with pytest.raises(LookupError, match="no connector other has run; there are: heap, hook"):
        store.forget("other")
    gone = store.forget("heap")
    assert (gone.connector, gone.pending, gone.parked, gone.erasures) == ("heap", 1, 2, 0)
    assert [[lane.connector for lane in one.read_lanes()] for one in store.view_all()] == [["hook"], ["hook"]]
    assert [one.connector for one in store.parked.read(EVERY)] == ["hook", "hook"]
    assert (store.pauses.read(), store.replays.read()) == ({}, [])


async def test_a_partition_with_nothing_to_do_has_no_work(store: Store, opened: tuple[Log, State]) -> None:
    _, state = opened
    await state.save({"heap": Cursor(0, 2, [], Counts(delivered=2))}, 2)
    view = store.view()
    assert (view.has_work(), store.view(7).has_work()) == (False, True)
    number = store.replays.ask(Replay("heap", Cursor(0, 0), 1))
    assert view.has_work()
    store.replays.cancel(number)
    assert not view.has_work()
    store.erasures.ask(User("anna"))
    assert view.has_work()


async def test_a_sound_store_has_no_doubts(store: Store, opened: tuple[Log, State]) -> None:
    store.check_complete()
    assert (store.doubts.find(), store.view().find_doubts()) == ([], [])
    assert store.doubts.describe_accepting("journal").startswith("accepting the journal")
    store.doubts.accept("journal")
    store.doubts.accept("clock")
    assert store.doubts.find() == []


async def test_a_damaged_database_is_unavailable_with_its_reason(tmp_path: Path) -> None:
    store = open_store(tmp_path, JournalSettings())
    await run(store, 0)
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"{DATABASE}{ending}").write_bytes(b"no database" * 1000)
    asked = [store.replays.read, store.view().read_lanes, lambda: [*store.parked.read(EVERY)], store.doubts.find]
    for one in asked:
        with pytest.raises(Unavailable) as caught:
            one()
        assert caught.value.reason == "damaged"
    with pytest.raises(Unavailable, match=r"relay\.db cannot be used: .*put a backup of it in its place") as caught:
        store.open(0, LIMITS, 1 << 20)
    assert caught.value.reason == "damaged"


async def test_a_locked_database_is_busy_and_an_older_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, JournalSettings())
    await run(store, 0)
    monkeypatch.setattr("relay.state.database_file.LOCKED_S", 0.05)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked") as caught:
            store.pauses.pause("heap")
        assert caught.value.reason == "busy"
        db.execute("ROLLBACK")
        db.execute("PRAGMA user_version = 3")
    with pytest.raises(Unavailable, match="of an older relay") as caught:
        store.history.add([Entry("failing", "journal", "it fails")])
    assert caught.value.reason == "older"


async def test_the_audit_finds_a_planted_gap(store: Store, opened: tuple[Log, State], tmp_path: Path) -> None:
    log, state = opened
    for text in (b"first", b"second", b"third"):
        await log.append([KIND], [b'{"id":"%s"}' % text])
    await state.save({"heap": Cursor(0, 1, [], Counts(delivered=1))}, log.head)
    assert audit_all(store).problems == []
    if isinstance(store, ToyStore):
        del store.books[0].log.blocks[1]
    elif isinstance(store, PostgresStore):
        server = start_shared_server()
        ((table,),) = server.execute(f"SELECT name FROM {store.schema}.segment WHERE partition = 0")
        server.execute(f"UPDATE {store.schema}.{table} SET body = 'damage' WHERE base = 1")
    else:
        (segment,) = (tmp_path / "journal").glob("*.log")
        segment.write_bytes(segment.read_bytes().replace(b"second", b"damage"))
    found = audit_all(store)
    assert not found.balances
    assert not found.balances
    assert f"{name_partition(store, 0)}: journal: offsets 1 cannot be read, of 0 to 2" in found.problems
