"""A user is erased from a cluster while relays deliver and take events in: only the server's WAL still has the ids."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import aiohttp
import orjson
import pytest

from relay.testing import make_event
from tests.forks import Forks
from tests.postgres import Server, run_server
from tests.process.cluster import EMAIL, Cluster, Numbered, send_round

pytestmark = pytest.mark.slow
USER = "erase-me-7c1d0b"
NODES = ("a", "b", "c")
NUMBERS = count(-1, -1)
"""Of the events of the user."""


@pytest.fixture
def server() -> Iterator[Server]:
    with run_server() as server:
        yield server


@pytest.fixture
async def cluster(server: Server, tmp_path: Path, relay_forks: Forks) -> AsyncIterator[Cluster]:
    """Three relays that share two partitions: one of them delivers nothing."""
    async with Numbered() as destination:
        cluster = Cluster(tmp_path, relay_forks, destination, 2, server)
        for name in NODES:
            cluster.nodes[name] = cluster.make(name)
            cluster.nodes[name].configure("30-erasure", '[erasure]\nafter = "0s"')
        async with asyncio.TaskGroup() as group:
            for node in cluster.nodes.values():
                group.create_task(node.start(), name="start")
        yield cluster
        await cluster.end()


async def post_of_user(cluster: Cluster) -> None:
    """Post events of the user at each relay."""
    user = {"external_user_id": USER}
    async with aiohttp.ClientSession() as session:
        for node in cluster.nodes.values():
            events = [orjson.loads(make_event(EMAIL, user=user, number=next(NUMBERS))) for _ in range(5)]
            async with session.post(f"{node.url}/currents", data=orjson.dumps({"events": events})) as answer:
                assert answer.status == 202


def count_of_user(cluster: Cluster) -> int:
    """Count the events of the user that the destination got."""
    return sum(event["user"].get("external_user_id") == USER for event in cluster.destination.events())


def count_parked(cluster: Cluster) -> int:
    """Count the parked events of all partitions."""
    listed = cluster.command("c", "parked", "list", "--json").stdout
    return len(orjson.loads(listed)) if listed else 0


def find_in_files(server: Server, text: str) -> set[str]:
    """Return the folders of the database's files in which a text is."""
    server.execute("CHECKPOINT")
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    return {path.relative_to(server.folder).parts[0] for path in files if text.encode() in path.read_bytes()}


@pytest.mark.long  # quicker: test_log and test_state in tests/unit/postgres
async def test_an_erased_user_is_in_the_wal_alone(cluster: Cluster, server: Server) -> None:
    await cluster.until("both partitions run", lambda: len(cluster.read_holders()) == 2)
    cluster.destination.behaviour = 400
    await post_of_user(cluster)
    await cluster.until("events are parked", lambda: count_parked(cluster) == 15)
    cluster.destination.behaviour = 200
    async with send_round(cluster):
        await post_of_user(cluster)
        await cluster.until("the user's events arrive", lambda: count_of_user(cluster) >= 15)
        assert {"base", "pg_wal"} <= find_in_files(server, USER)
        done = await asyncio.to_thread(cluster.command, "c", "erasures", "request", "--external-id", USER)
        assert done.returncode == 0, done.stderr

        def is_done() -> bool:
            (erasure,) = orjson.loads(cluster.command("b", "erasures", "list", "--json").stdout)
            return bool(erasure["status"] == "done")

        await cluster.until("the user is erased", is_done)
    receipt = cluster.command("a", "erasures", "show", "1").stdout.decode()
    assert "beyond     relay cannot remove copies in the server's WAL until it is recycled" in receipt
    assert find_in_files(server, USER) == {"pg_wal"}
