"""Several relays share the partitions of a journal in PostgreSQL, and one after the other goes away and comes back.

Each test prints how long the takeovers took. What is promised: at once after a stop, else the time of a lease and 5 s.
"""

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relay.status.model import Status
from tests.forks import Forks
from tests.postgres import start_shared_pooler, start_shared_server
from tests.process.cluster import EVENTS, Cluster, Numbered, configure_hook, send_round

pytestmark = pytest.mark.slow


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, tmp_path: Path, relay_forks: Forks) -> AsyncIterator[Cluster]:
    """A cluster of 4 partitions, of which no relay runs yet. As "pooled", of one partition and behind a pooler."""
    is_pooled = getattr(request, "param", "") == "pooled"
    dsn = start_shared_pooler().dsn if is_pooled else ""
    async with Numbered() as destination:
        cluster = Cluster(tmp_path, relay_forks, destination, 1 if is_pooled else 4, start_shared_server(), dsn)
        yield cluster
        await cluster.end()


async def deliver_some(cluster: Cluster) -> None:
    """Wait until some more events arrive."""
    before = len(cluster.destination.arrived)
    await cluster.until("events arrive", lambda: len(cluster.destination.arrived) > before + 50)


def list_held(cluster: Cluster, name: str) -> list[int]:
    return [partition for partition, node in cluster.read_holders().items() if node == name]


def says(cluster: Cluster, at: str, **wanted: str) -> Callable[[], bool]:
    """Return what looks whether `relay status` at a node says these states of nodes."""
    return lambda: {one.node: one.state for one in cluster.read_status(at).nodes} == wanted


async def test_relays_come_and_go_and_deliver_everything(cluster: Cluster) -> None:
    await cluster.start("a", "b")
    a, b = cluster.nodes.values()
    async with send_round(cluster) as sender:
        await deliver_some(cluster)
        await cluster.start("c")
        await deliver_some(cluster)
        assert await cluster.nodes["c"].stop() == 0
        print(f"taken over within {await cluster.until_shared('a', 'b'):.1f} s of a stop")
        await deliver_some(cluster)
        sender.assert_few_twice()
        await cluster.until("c has stopped", says(cluster, "b", a="running", b="running", c="stopped"))

        sender.killed += len(list_held(cluster, "a"))
        await a.kill()
        print(f"taken over within {await cluster.until_shared('b'):.1f} s of a kill")
        await deliver_some(cluster)
        await cluster.until("a is away", says(cluster, "b", a="away", b="running", c="stopped"))
        await a.start()
        print(f"shares again within {await cluster.until_shared('a', 'b'):.1f} s of a start")
        await deliver_some(cluster)

        b.signal(signal.SIGSTOP)
        print(f"taken over within {await cluster.until_shared('a'):.1f} s of a standstill")
        await deliver_some(cluster)
        b.signal(signal.SIGCONT)
        print(f"shares again within {await cluster.until_shared('a', 'b'):.1f} s of its end")
        await deliver_some(cluster)
    assert b.is_running


@pytest.mark.parametrize("cluster", ["pooled"], indirect=True)
@pytest.mark.long  # quicker: the first test, and test_shared_partitions
async def test_relays_without_a_partition_take_events_and_wait_for_one(cluster: Cluster) -> None:
    await cluster.start("a", "b", "c")
    async with send_round(cluster) as sender:
        await deliver_some(cluster)
        await cluster.until("two wait", lambda: sum(not one.partitions for one in cluster.read_status("c").nodes) == 2)
        (holder,) = cluster.read_holders().values()
        sender.killed += 1
        await cluster.nodes[holder].kill()
        others = {*cluster.nodes} - {holder}
        await cluster.until("another has the partition", lambda: cluster.read_holders().get(0) in others)
        await deliver_some(cluster)


async def test_a_second_relay_of_one_name_is_refused(cluster: Cluster) -> None:
    await cluster.start("a")
    other = cluster.make("a", folder="other")
    await other.launch()
    assert await other.ended() != 0
    (said,) = [line for line in other.stderr if "runs already" in line]
    assert f"node a runs already, as process {cluster.nodes['a'].pid} on" in said
    await cluster.until_shared()


@pytest.mark.long
async def test_the_status_is_told_while_no_relay_runs(cluster: Cluster) -> None:
    await cluster.start("a", "b")
    cluster.destination.behaviour = 503
    async with send_round(cluster):
        await cluster.until("events come in", lambda: cluster.read_pending("a") > 50)
        for node in cluster.nodes.values():
            assert await node.stop() == 0
        seen: Status = cluster.read_status("b")
        assert [(one.node, one.state) for one in seen.nodes] == [("a", "stopped"), ("b", "stopped")]
        assert seen.waiting_partitions == [0, 1, 2, 3]
        assert sum(lane.pending for lane in seen.lanes) > 50
        assert [lane.state for lane in seen.lanes] == ["idle"]
        assert cluster.command("a", "pause", "hook").returncode == 0
        assert [lane.state for lane in cluster.read_status("a").lanes] == ["paused"]
        assert cluster.command("a", "resume", "hook").returncode == 0
        assert cluster.command("a", "status").returncode == 1
        cluster.destination.behaviour = 200
        for node in cluster.nodes.values():
            await node.start()
        await cluster.until_shared()


@pytest.mark.long  # quicker: tests/unit/postgres/test_state, and test_shared_partitions
async def test_a_connector_that_nodes_get_one_by_one_misses_no_event(cluster: Cluster) -> None:
    await cluster.start("a", "b")
    a, b = cluster.nodes.values()
    async with Numbered() as late, send_round(cluster) as sender:
        await deliver_some(cluster)
        configure_hook(a, "late", late)
        assert (await a.run("reload")).returncode == 0
        first = sender.accepted[-1] + 2 * EVENTS  # what is under way now may have come before
        await cluster.until("events arrive at it", lambda: max(late.arrived, default=0) > first + 50)
        await cluster.until("b is known to lack it", lambda: cluster.read_status("a").nodes[1].lacks == ["late"])
        assert not {*range(first, sender.accepted[-1])} <= late.arrived.keys(), "some wait at b"
        configure_hook(b, "late", late)
        assert (await b.run("reload")).returncode == 0
        await deliver_some(cluster)
        sender.stop()
        await cluster.until(
            "it has every event", lambda: {*range(first, sender.accepted[-1] + 1)} <= late.arrived.keys()
        )
