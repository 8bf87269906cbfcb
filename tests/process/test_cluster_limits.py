"""What one relay promises of order, rate and duplicates holds over several relays on one PostgreSQL."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from relay.testing import Answer
from tests.forks import Forks
from tests.postgres import start_shared_server
from tests.process.cluster import Cluster, Node, Numbered, make_numbered

pytestmark = pytest.mark.slow

PARTITIONS = 4
USERS = 5
RATE = 60
HOOK = """
[connector.hook]
type = "http"
url = "%s"
retry = { first = "20ms", max = "100ms" }
"""


@pytest.fixture
async def cluster(tmp_path: Path, relay_forks: Forks) -> AsyncIterator[Cluster]:
    """A cluster of which no relay runs yet."""
    async with Numbered() as destination:
        cluster = Cluster(tmp_path, relay_forks, destination, PARTITIONS, start_shared_server())
        yield cluster
        await cluster.end()


async def start(cluster: Cluster, hook: str, source: str = "") -> list[Node]:
    """Start two relays with more settings of their connector and source; return them."""
    for name in ("a", "b"):
        cluster.nodes[name] = node = cluster.make(name)
        node.configure("20-hook", HOOK % cluster.destination.url + hook)
        node.configure("10-source", f'[source.braze]\ntype = "currents"\npath = "/currents"\n{source}')
    await cluster.start("a", "b")
    return [*cluster.nodes.values()]


async def post(node: Node, *numbers: int) -> int:
    """Send numbered events of a few users until they are taken; return how many were no duplicates."""
    events = [make_numbered(n) | {"user": {"external_user_id": f"user-{n % USERS}"}} for n in numbers]
    async with asyncio.timeout(60):
        while True:
            status, answer = await node.post(orjson.dumps({"events": events}))
            if status == 202:
                return int(answer["accepted"])
            assert status == 503
            await asyncio.sleep(0.05)


def list_by_user(cluster: Cluster) -> dict[int, list[int]]:
    """Return the events of each user in the order of their arrival."""
    found = defaultdict[int, list[int]](list)
    for event in cluster.destination.events():
        number = event["properties"]["number"]
        found[number % USERS].append(number)
    return found


@pytest.mark.long  # quicker: test_shared_partitions, and test_takeover in tests/unit/postgres
async def test_an_order_holds_over_nodes_and_takeovers(cluster: Cluster) -> None:
    a, b = await start(cluster, 'order_by = "user.external_user_id"\nwindow = 50\n')
    cluster.destination.script.extend([200, 503, Answer(delay=0.05)] * 100)
    for number in range(100):
        await post((a, b)[number % 2], number)
    holder, other = (a, b) if cluster.read_holders()[0] == "a" else (b, a)
    await holder.kill()
    for number in range(100, 200):
        await post(other, number)
    await cluster.until("all arrive", lambda: sum(len({*its}) for its in list_by_user(cluster).values()) == 200)
    for its in list_by_user(cluster).values():
        first = [*dict.fromkeys(its)]
        assert first == sorted(first), "an event has come before an earlier one"
    again = sum(len(its) for its in list_by_user(cluster).values()) - 200
    assert again <= 50


@pytest.mark.long  # quicker: test_shared_partitions
async def test_a_rate_is_never_exceeded_over_nodes(cluster: Cluster) -> None:
    nodes = await start(cluster, f"rate = {RATE}\n")
    began = time.monotonic()
    for turn in range(12):
        await post(nodes[turn % 2], *range(turn * 30, turn * 30 + 30))
    while (sent := len(cluster.destination.bodies())) < 360:
        assert sent <= RATE * (2 + time.monotonic() - began) + PARTITIONS  # a burst, and a batch
        await asyncio.sleep(0.01)


@pytest.mark.long  # quicker: tests/unit/postgres/test_log
async def test_the_same_events_at_two_nodes_at_once_are_taken_once(cluster: Cluster) -> None:
    a, b = await start(cluster, "", 'dedupe = "1h"\n')

    async def send(node: Node) -> int:
        return sum([await post(node, *range(first, first + 10)) for first in range(0, 300, 10)])

    taken = await asyncio.gather(send(a), send(b), send(a), send(b))
    assert sum(taken) == 300
    await cluster.until("all arrive", lambda: len(cluster.destination.bodies()) >= 300)
    await cluster.until("nothing is pending", lambda: cluster.read_pending("a") == 0)
    assert sorted(event["properties"]["number"] for event in cluster.destination.events()) == [*range(300)]
