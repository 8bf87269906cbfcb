"""The store in PostgreSQL: how a process joins, opens partitions and takes events in, and what bystanders find."""

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.api import Kind, User
from relay.config import JournalSettings
from relay.inspect import (
    DumpPart,
    JournalProgress,
    Stretch,
    audit_all,
    check_all,
    count_all,
    dump_all,
    find_remains,
    search_all,
)
from relay.postgres import PostgresStore
from relay.postgres import store as store_module
from relay.postgres.inbox import TURN_EVENTS
from relay.postgres.log.writer import PostgresWriter
from relay.store import Counts, Cursor, Entry, EventIds, JournalLimits, Parked, SourceLedger, Unavailable
from relay.testing import make_event
from tests.postgres import NEWER_TABLES, start_shared_server

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(max_size=64 << 20, retention=3600)
Make = Callable[..., PostgresStore]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes stores of processes on one cluster with 2 partitions."""
    server = start_shared_server()
    monkeypatch.setenv("RELAY_DSN", server.dsn)
    with closing(server.make_database(partitions=2)) as database:
        schema = database.schema[1:-1]
    made: list[PostgresStore] = []

    def make_store(node: str = "a", partitions: int = 2, schema: str = schema) -> PostgresStore:
        dsn = {"env": "RELAY_DSN"}
        settings = JournalSettings(backend="postgres", dsn=dsn, schema=schema, node=node, partitions=partitions)
        made.append(PostgresStore(settings, tmp_path / node))
        return made[-1]

    yield make_store
    for store in made:
        store.close()


def execute(store: PostgresStore, statement: str) -> list[tuple[object, ...]]:
    return start_shared_server().execute(statement.replace("$.", f"{store.schema}."))


def test_partitions_grow_with_the_configuration_and_never_shrink(make: Make) -> None:
    running = make("c")
    membership = running.join(0)
    store = make(partitions=3)
    store.join(0)
    assert execute(store, "SELECT count(*) FROM $.partition") == [(3,)]
    membership.find_wanted()
    assert running.shared_partitions == 3, "each partition has a third of a rate, whichever node runs it"
    with pytest.raises(Unavailable, match="set partitions = 3, for the number never shrinks"):
        make("b", partitions=2).join(0)


def test_a_schema_without_tables_is_said_at_the_start(make: Make) -> None:
    with pytest.raises(Unavailable, match=r"run relay journal init, which makes them") as caught:
        make(schema="nothing").join(0)
    assert caught.value.reason == "missing"


def test_a_start_without_the_server_says_who_starts_relay_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_DSN", "host=127.0.0.1 port=1 user=relay")
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    said = r"Connection refused; Is the server running .*; start relay again once the server answers"
    store = make()
    with pytest.raises(Unavailable, match=said):
        store.join(0)
    monkeypatch.setenv("INVOCATION_ID", "of a unit")
    with pytest.raises(Unavailable, match="; systemd starts relay again"):
        store.join(0)


def test_a_second_node_in_a_state_folder_is_refused(make: Make, tmp_path: Path) -> None:
    first, second = make(), make()
    first.join(0)
    used = re.escape(f"{tmp_path / 'a'} is in use by another relay (process {os.getpid()}): stop that relay, or")
    with pytest.raises(Unavailable, match=used):
        second.join(0)
    second.join(1)  # a worker, whose supervisor holds the folder by the first worker
    first.close()
    second.join(0)


def test_the_last_run_is_that_of_the_own_node(make: Make) -> None:
    a, b = make(), make("b")
    a.join(0)
    a.history.add([Entry("started", "relay", "", at=1.0)])
    b.history.add([Entry("started", "relay", "", at=2.0), Entry("stopped", "relay", "", at=3.0)])
    found = [store.history.find_last_run() for store in (a, b, make("c"))]
    assert found == [("started", 1.0), ("stopped", 3.0), None]


def test_another_cluster_is_refused_at_the_start_until_accepted(make: Make) -> None:
    store = make()
    store.join(0).leave()
    execute(store, "UPDATE $.cluster SET id = gen_random_uuid()")
    with pytest.raises(Unavailable, match="has worked with cluster"):
        store.join(0)
    command = make()
    assert [one.what for one in command.doubts.find()] == ["journal"]
    assert command.doubts.accept("journal") == ["a relay that runs with this state folder takes part after a restart"]
    store.join(0)
    assert store.doubts.find() == []


def test_tables_that_were_replaced_are_not_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.postgres.cluster.FRESH_S", 0.0)
    store = make()
    assert store.view_all()
    execute(store, "UPDATE $.cluster SET id = gen_random_uuid()")
    with pytest.raises(Unavailable, match="stop all relays and restore the old tables"):
        store.view_all()


async def test_a_partition_that_cannot_be_opened_is_free_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = make(), make("b")

    def fail(*_: object) -> None:
        raise Unavailable("no room")

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "PostgresLog", fail)
        with pytest.raises(Unavailable, match="no room"):
            store.open(0, LIMITS, 0)
    log, state = other.open(0, LIMITS, 0)
    with pytest.raises(Unavailable, match=r"partition 0 of .* is in use by another relay: node b \(process") as caught:
        store.open(0, LIMITS, 0)
    assert caught.value.reason == "busy"
    await log.close()
    state.close()
    with pytest.raises(Unavailable, match="there is no partition 7"):
        store.open(7, LIMITS, 0)


async def test_small_appends_at_a_time_share_a_commit(make: Make) -> None:
    store = make()
    opened = [store.open(partition, LIMITS, 1 << 20) for partition in range(2)]
    inbox = store.open_inbox(0, LIMITS)
    await asyncio.gather(*(inbox.events.append([KIND], [b"1"]) for _ in range(2 * TURN_EVENTS)))
    assert ([log.head for log, _ in opened], sum(inbox.events.syncs.counts)) == ([TURN_EVENTS, TURN_EVENTS], 4)
    await inbox.close()
    for log, state in opened:
        await log.close()
        state.close()


async def test_events_go_by_turns_to_partitions_that_take_them(make: Make) -> None:
    store = make()
    opened = [store.open(partition, LIMITS, 1 << 20) for partition in range(2)]
    inbox, tapped = store.open_inbox(0, LIMITS), list[bytes]()
    inbox.events.taps.add(lambda block: tapped.extend(block.bodies()))
    for body in (b"1", b"2", b"3", b"4"):
        await inbox.events.append([KIND], [body])
    assert ([log.head for log, _ in opened], tapped) == ([2, 2], [b"1", b"2", b"3", b"4"])
    opened[0][0].fence("taken over")
    for body in (b"5", b"6"):
        await inbox.events.append([KIND], [body])
    assert ([log.head for log, _ in opened], inbox.events.refusing) == ([2, 4], None)
    await opened[1][0].close()
    await inbox.events.append([KIND], [b"7"])
    assert (inbox.events.bytes, inbox.events.failed, sum(inbox.events.syncs.counts)) == (7, 0, 7)
    await inbox.close()
    await opened[0][0].close()
    for _, state in opened:
        state.close()


async def test_failed_commits_count_with_ids_and_without(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = make().open_inbox(0, LIMITS)

    def fail(*_: object) -> None:
        raise Unavailable("no room")

    with monkeypatch.context() as patched:
        patched.setattr(PostgresWriter, "write", fail)
        with pytest.raises(Unavailable, match="no room"):
            await inbox.events.append([KIND], [b"1"])
        with pytest.raises(Unavailable, match="no room"):
            async with inbox.events.append_new([KIND], [b"2"], EventIds("braze", ["a"], 60.0)):
                pass
    assert inbox.events.failed == 2
    await inbox.close()


async def test_counts_of_sources_are_summed_over_all_processes(make: Make) -> None:
    for node, duplicates in (("a", 3), ("b", 4)):
        store = make(node)
        store.join(0)
        inbox = store.open_inbox(0, LIMITS)
        await inbox.sources.save_sources([SourceLedger("braze", duplicates)])
        assert await inbox.sources.read_sources() == {"braze": SourceLedger("braze", duplicates)}
        await inbox.close()
    assert [store.view(partition).read_sources() for partition in range(2)] == [[SourceLedger("braze", 7)], []]


@pytest.mark.parametrize("newer", ["", NEWER_TABLES], ids=["own tables", "tables of a newer relay"])
async def test_commands_find_everything_while_nothing_runs(make: Make, newer: str) -> None:
    store = make()
    execute(store, newer)
    for partition in range(2):
        log, state = store.open(partition, LIMITS, 0)
        events = [make_event(user={"external_user_id": f"user-{n}"}) for n in range(3)]
        await log.append([KIND] * 3, events)
        await state.park([Parked("braze", "hook", 1, KIND.type, "refused", "no", 1, events[1])])
        await state.save({"hook": Cursor(0, 2, [], Counts(delivered=1, parked=1))}, log.head)
        await log.close()
        state.close()
    bystander = make("admin")
    bystander.erasures.ask(User(None, ("user-1",)))
    told = list[tuple[int, int]]()
    audit = audit_all(bystander, progress=JournalProgress(lambda read, of: told.append((read, of)), interval=0))
    assert told == [(3, 6), (6, 6)]
    assert (audit.balances, [(row.accepted, row.parked, row.pending) for row in audit.connectors]) == (
        True,
        [(6, 2, 2)],
    )
    assert (check_all(bystander).ok, len([*dump_all(bystander, DumpPart(limit=4))])) == (True, 4)
    assert [one.wanted for one in count_all(bystander, Stretch(connector="hook"))] == [2, 2]
    remains = find_remains(bystander, User(None, ("user-1",)))
    assert (remains.events, remains.parked, remains.erasures, remains.problems) == (2, 2, [1], [])
    name = json.loads(events[1])["id"]
    (sighting,) = [one for worker in search_all(bystander, name) for one in worker.journal]
    assert (sighting.offset, sighting.lanes[0].state) == (1, "parked (refused: no)")
    assert [bystander.forget("hook").parked, audit_all(bystander).connectors] == [2, []]
    assert bystander.describe_usage(1).startswith("other tables ")


async def test_a_connector_that_another_node_has_is_not_forgotten(make: Make) -> None:
    store, other = make(), make("b")
    store.join(0)
    membership = other.join(0)
    log, state = store.open(0, LIMITS, 1 << 20)
    await state.save({"heap": Cursor(0, 0)}, 0)
    await log.close()
    state.close()
    membership.report(b"{}", {"connector.heap": "digest"})
    with pytest.raises(Unavailable, match="heap is still configured at node b"):
        store.forget("heap")
    membership.report(b"{}", {})
    assert store.forget("heap").connector == "heap"


def test_entries_of_the_history_name_their_node(make: Make) -> None:
    store, other = make(), make("b")
    store.join(0)
    for one in (store, other):
        one.history.add([Entry("started", "relay", "relay started", about={"workers": 1})])
    assert [one.about for one in store.history.read()] == [
        {"workers": 1, "node": "a"},
        {"workers": 1, "node": "b"},
    ]
