"""Reads the status of all nodes that share a store. Blocking.

Each process leaves a status of itself in the store every few seconds. So any node can tell how all are, and so can a
command while none runs. Partitions that no process runs are told of by their ledgers.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from relay.config import Config
from relay.status.merge import freeze, merge_statuses
from relay.status.model import NodeStatus, Status
from relay.status.retired import make_idle_status, read_ledgers
from relay.store import NodeProcess, Pause, Store

CONNECTOR = "connector."
"""The prefix of the names of connectors' tables."""


def read_cluster_status(store: Store, config: Config, here: str = "") -> Status:
    """Read the status of all nodes from the store. Raises Unavailable.

    `config`: a configuration with the sources and connectors of interest, for partitions that no process runs. `here`:
    the node that reads, and so runs; "": none does.
    """
    processes = store.read_processes()
    reports = [_decode_report(one) for one in processes]
    running = [report for report in reports if report is not None]
    partitions = sorted({number for report in running for number in report.partitions})
    pauses = store.pauses.read()
    idle = [freeze(_describe_idle(one, pauses)) for one in read_ledgers(store, partitions, config)]
    whole = merge_statuses(
        [*running, *idle, make_idle_status(0, {}, {}, config)],
        store.parked.read_totals(),
        store.erasures.find_failing(),
        store.doubts.find(),
        parked_most=config.parked.max_size,
    )
    health = store.read_health()
    waiting = sorted({*range(store.shared_partitions)} - {*partitions})
    return replace(
        whole,
        nodes=_correct_own(describe_nodes(processes, reports, whole.now), here),
        waiting_partitions=waiting,
        unopened={number: why for number, why in whole.unopened.items() if number in waiting},
        durability=health.durability,
        store_problems=health.problems,
        standbys=health.standbys,
        held_snapshots=health.held_snapshots,
    )


def take_stored(own: Status, whole: Status, parked_most: int) -> Status:
    """Return the status of a node, with what a status of all nodes has read from the store. Pure.

    `parked_most`: the bytes that parked events may take.
    """
    return merge_statuses([own], whole.parked, whole.failing_erasures, whole.doubts, parked_most=parked_most)


def mark_unavailable(own: Status, reason: str, capacity: int) -> Status:
    """Return the status of a node that does not reach the store: nothing can be written. Pure.

    `capacity`: the bytes that all partitions may take, by the configuration: the node knows those of its own ones. A
    node that has lost its partitions tries no write, and would find nothing wrong.
    """
    journal = replace(own.journal, capacity=own.journal.capacity and capacity)
    journal = replace(journal, refusing=journal.refusing or reason, unsaved=journal.unsaved or reason, away=True)
    return replace(own, journal=journal, unread=reason)


def _describe_idle(partition: Status, pauses: Mapping[str, Pause]) -> Status:
    """Describe the lanes of a partition that no process runs."""
    lanes = []
    for one in partition.lanes:
        held = pauses.get(one.connector)
        if held is None:
            lanes.append(replace(one, state="idle"))
        else:
            lanes.append(replace(one, state="paused", since=held.since, paused_until=held.until))
    return replace(partition, lanes=lanes)


def _decode_report(one: NodeProcess) -> Status | None:
    """Return what a running process has reported; None without a report that this version understands."""
    if one.state != "running" or not one.status:
        return None
    try:
        return msgspec.json.decode(one.status, type=Status)
    except msgspec.MsgspecError:
        return None


def describe_nodes(processes: Sequence[NodeProcess], reports: Sequence[Status | None], now: float) -> list[NodeStatus]:
    """Describe each process, and what differs in the configuration of a running one. Pure."""
    known = [one.tables for one in processes if one.state == "running" and one.tables]
    connectors = {name for tables in known for name in tables if name.startswith(CONNECTOR)}
    found = []
    for one, report in zip(processes, reports, strict=True):
        node = NodeStatus(
            node=one.node, worker=one.worker, state=one.state, host=one.host, process=one.process,
            version=one.version, started=one.since, seen=now - one.silent,
            memory=None if report is None else report.memory, partitions=one.partitions,
        )  # fmt: skip
        if one.state == "running" and one.tables:
            lacks = sorted(name.removeprefix(CONNECTOR) for name in connectors - one.tables.keys())
            node = replace(node, differs=_find_different(known[0], one.tables), lacks=lacks)
        found.append(node)
    return found


def _correct_own(nodes: Sequence[NodeStatus], here: str) -> list[NodeStatus]:
    """Say that a node runs that has given no sign of life: after an outage its next sign comes within seconds."""
    if any(one.node == here and one.state == "running" for one in nodes):
        return [*nodes]
    return [replace(one, state="running") if (one.node, one.state) == (here, "away") else one for one in nodes]


def find_nodes_with(connector: str, nodes: Sequence[NodeStatus]) -> list[str]:
    """Return the running nodes that have a connector in their configuration. Pure."""
    return [*dict.fromkeys(one.node for one in nodes if one.state == "running" and connector not in one.lacks)]


def _find_different(ones: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """Return the names of the tables that differ, or are in one of the two configurations alone."""
    return sorted(name for name in {*ones, *others} if ones.get(name) != others.get(name))
