"""The status of all nodes that share a store, also of those that are away, and while none runs."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from relay.cli.commands.running.status import format_screen
from relay.config import Config
from relay.status.cluster import mark_unavailable, read_cluster_status
from relay.status.conditions import find_conditions
from relay.status.diagnosis import diagnose
from relay.status.model import Status
from relay.store import Counts, Cursor, JournalLimits, NodeProcess
from tests.toy_store.store import ToyStore
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status

TABLES = {"ingest": "1", "connector.heap": "2", "connector.archive": "3"}


class SharedStore(ToyStore):
    """Two partitions, with processes as a test plays them."""

    def __init__(self) -> None:
        super().__init__(partitions=2)
        self.processes: list[NodeProcess] = []

    def add(self, node: str, report: Status | None = None, **given: Any) -> None:
        """Add a process with its last report."""
        reported = {} if report is None else {"status": msgspec.json.encode(report), "tables": TABLES}
        partitions = () if report is None else report.partitions
        one = NodeProcess(
            node=node, worker=0, state="running", host=f"host of {node}", process=17, version="1", since=NOON - 3600,
            silent=2.0, partitions=partitions,
        )  # fmt: skip
        self.processes.append(replace(one, **reported | given))

    def read_processes(self) -> list[NodeProcess]:
        return self.processes


@pytest.fixture
async def store() -> SharedStore:
    """A store that relay has run with."""
    store = SharedStore()
    await run(store, 0, {})
    return store


async def run(store: SharedStore, partition: int, cursors: dict[str, Cursor]) -> None:
    """Run a partition up to offset 9."""
    log, state = store.open(partition, JournalLimits(64 << 20, 3600), 1 << 20)
    await state.save(cursors, 9)
    await log.close()
    state.close()


def of_partition(number: int, **given: Any) -> Status:
    """The status of a process that runs one partition, with ten delivered events."""
    return a_status(partitions=[number], now=NOON, **given)


def read(store: SharedStore) -> Status:
    return replace(read_cluster_status(store, Config()), now=NOON)


def sentences(status: Status) -> list[str]:
    return [one.said for one in diagnose(status).nodes]


def test_counts_are_those_of_all_running_nodes(store: SharedStore) -> None:
    store.add("a", of_partition(0, memory=100))
    store.add("b", of_partition(1, memory=50, lanes=[a_lane(accepted=5, pending=3, state="failing", since=NOON)]))
    whole = read(store)
    assert [(one.connector, one.accepted, one.state) for one in whole.lanes] == [("heap", 15, "failing")]
    assert [(one.source, one.accepted) for one in whole.sources] == [("braze", 20)]
    assert [(one.node, one.memory, one.partitions) for one in whole.nodes] == [("a", 100, [0]), ("b", 50, [1])]
    assert (whole.waiting_partitions, diagnose(whole).nodes[0].ok) == ([], True)
    assert [line.split() for line in format_screen(whole)[3:6]] == [
        ["node", "worker", "state", "up", "partitions", "memory", "version", "host"],
        ["a", "0", "running", "1h", "0m", "0", "100", "B", "1", "host", "of", "a"],
        ["b", "0", "running", "1h", "0m", "1", "50", "B", "1", "host", "of", "b"],
    ]


def test_a_node_that_is_away_counts_no_more_and_needs_a_look(store: SharedStore) -> None:
    store.add("a", of_partition(0))
    store.add("b", of_partition(1), state="away", silent=120.0, partitions=())
    store.add("c", of_partition(1), state="stopped", partitions=())
    whole = read(store)
    assert [one.accepted for one in whole.lanes] == [10]
    assert sentences(whole)[1:] == [
        "node b: has given no sign of life since 2027-01-15T11:58:00Z (process 17 on host of b); other processes run"
        " its partitions; start it again, or leave it: relay forgets it after a day",
        "node c: has stopped at 2027-01-15T11:59:58Z",
        "partitions: nobody runs partition 1, and their events wait; a running process takes them over in a moment",
    ]
    assert [one.ok for one in diagnose(whole).nodes] == [True, False, True, False]
    assert [(one.kind, one.subject) for one in find_conditions(whole)] == [("node_lost", "node b")]


def test_a_partition_that_nobody_can_open_is_told_with_its_reason(store: SharedStore) -> None:
    store.add("a", of_partition(0, unopened={0: "was in use", 1: "its books are torn"}))
    whole = read(store)
    said = "partition 1 cannot be opened, and its events wait: its books are torn; each process tries again by itself"
    assert sentences(whole)[1:] == [said]
    (one,) = find_conditions(whole)
    assert (one.key, one.sentence) == (("partition_unopened", "partition 1"), said)
    assert one.facts == {"last_error": {"reason": "its books are torn"}, "do": "relay journal check"}
    store.add("b", of_partition(1, unopened={0: "was in use"}))
    assert find_conditions(read(store)) == []


async def test_partitions_without_a_process_are_told_of_by_their_ledgers(store: SharedStore) -> None:
    await run(store, 1, {"old": Cursor(0, 4, counts=Counts(delivered=4))})
    whole = read(store)
    assert [(one.connector, one.pending) for one in whole.gone] == [("old", 5)]
    assert sentences(whole) == []
    store.add("a", of_partition(0), state="stopped", partitions=())
    assert sentences(read(store))[-1] == (
        "partitions: nobody runs partitions 0-1, and their events wait; no relay runs: start one"
    )
    assert not diagnose(read(store)).ok


def test_what_differs_in_the_configuration_of_a_node_is_named(store: SharedStore) -> None:
    store.add("a", of_partition(0))
    store.add("b", of_partition(1), tables={**TABLES, "ingest": "other"})
    store.add("c", a_status(), tables={"ingest": "1", "connector.heap": "2", "filter.x": "9"})
    whole = read(store)
    assert [(one.node, one.differs, one.lacks) for one in whole.nodes] == [
        ("a", [], []),
        ("b", ["ingest"], []),
        ("c", ["connector.archive", "filter.x"], ["archive"]),
    ]
    found = diagnose(whole).nodes
    assert [one.ok for one in found] == [True, True, False]
    assert found[1].said == (
        "node b: runs partition 1 on host of b; its configuration differs from that of a in ingest"
    )
    assert found[2].said == (
        "node c: runs no partition on host of c; has no connector archive: events in its partitions wait; add it"
        " there, and reload; its configuration differs from that of a in filter.x"
    )
    screen = "\n".join(format_screen(whole))
    assert found[1].said in screen
    assert found[0].said not in screen


def test_a_report_of_another_version_leaves_only_its_part_out(store: SharedStore) -> None:
    store.add("a", of_partition(0, sources=[a_source(accepted=1)]))
    store.add("b", status=b'{"another": "form"}', tables=TABLES, version="9")
    store.add("c")
    whole = read(store)
    assert [one.accepted for one in whole.sources] == [1]
    assert [(one.node, one.version, one.memory) for one in whole.nodes] == [
        ("a", "1", 1 << 20),
        ("b", "9", None),
        ("c", "1", None),
    ]


def test_a_node_without_store_and_partitions_says_that_nothing_is_known() -> None:
    empty = replace(a_status().journal, capacity=0, needed=0, size=0)
    status = mark_unavailable(replace(a_status(lanes=[a_lane()]), journal=empty), "Connection refused", 1 << 30)
    assert [one.kind for one in find_conditions(status)] == ["database_failing"], "the journal is not full"
    screen = "\n".join(format_screen(status))
    assert "journal: nothing is known of it now" in screen
    assert "no room" not in screen
    assert "takes no events: Connection refused" in screen


def test_what_nobody_knows_while_no_relay_runs_is_no_zero(store: SharedStore) -> None:
    store.add("a", state="away", silent=120.0)
    lanes = [
        a_lane(state="idle", pending=3, drained_in=None),
        a_lane(connector="hook", state="paused", since=NOON, parked_now=2),
    ]
    whole = replace(read(store), sources=[a_source()], lanes=lanes)
    lines = format_screen(whole)
    assert lines[:2] == [
        f"relay {whole.version}, no relay runs",
        "journal: its size is unknown while no relay runs",
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["braze"][:5] == ["-"] * 4 + ["2s"]
    assert rows["heap"] == ["idle", "3", "-", "-", "-", "0", "-"]
    assert rows["hook"][:2] == ["paused", "0"]
    assert "no relay runs: start it again, or another node" in sentences(whole)[0]


def test_a_node_that_reads_the_status_does_not_call_itself_away(store: SharedStore) -> None:
    store.add("a", state="away", silent=20.0)
    store.add("b", state="away", silent=20.0)
    assert [one.state for one in read_cluster_status(store, Config(), "a").nodes] == ["running", "away"]
    assert [one.state for one in read_cluster_status(store, Config()).nodes] == ["away", "away"]


def test_parked_events_are_unknown_while_the_store_is_away() -> None:
    status = mark_unavailable(a_status(lanes=[a_lane(parked_now=0)]), "Connection refused", 64 << 30)
    screen = "\n".join(format_screen(status))
    assert "of 64.0 GiB" in screen, "the bytes that all partitions may take"
    (row,) = [line.split() for line in screen.splitlines() if line.startswith("heap ")]
    assert row[-2:-1] == ["-"]
