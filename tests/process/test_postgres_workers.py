"""Several workers of one node on PostgreSQL: they share the partitions, whatever happens to one of them."""

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import orjson
import pytest

from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.postgres import start_shared_server
from tests.process.commands import ask, numbers, until_answer
from tests.process.test_postgres import CONFIG

WORKERS = """
[runtime]
workers = 2
drain = "5s"
"""
ARCHIVE = """
[connector.archive]
type = "file"
path = "archive/{date}-{worker}.ndjson"
keep = "30d"
"""
PARTITIONS = 4


def configure(daemon: Daemon, hook: Destination) -> None:
    """Have the daemon work with a new cluster of four partitions."""
    server = start_shared_server()
    dsn = daemon.conf.parent / "dsn"
    dsn.write_text(server.dsn)
    dsn.chmod(0o600)
    database = server.make_database(partitions=PARTITIONS)
    database.close()
    text = CONFIG % (dsn, database.schema[1:-1], hook.url)
    daemon.configure("10-all", text.replace("partitions = 1", f"partitions = {PARTITIONS}"))
    daemon.configure("20-workers", WORKERS)


async def post(daemon: Daemon, number: int) -> None:
    """Post an event until it is taken in."""
    body = b'{"events":[%s]}' % make_event(n=number)
    async with asyncio.timeout(60):
        while True:
            try:
                if (await daemon.post(body))[0] == 202:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.05)


def share(status: Any) -> list[list[int]]:
    """Return the partitions of each process."""
    return sorted(node["partitions"] for node in status["nodes"] if node["state"] == "running")


def is_fair(status: Any) -> bool:
    return [len(mine) for mine in share(status)] == [2, 2] and not status["waiting_partitions"]


async def test_workers_share_the_partitions_and_take_over_from_each_other(daemon: Daemon) -> None:
    async with Destination() as hook:
        configure(daemon, hook)
        await daemon.start()
        status = await until_answer(daemon, "status", good=is_fair)
        assert sorted(number for mine in share(status) for number in mine) == [0, 1, 2, 3]
        for number in range(20):
            await post(daemon, number)
        await daemon.until(lambda: seen(hook), lambda found: found.keys() == {*range(20)})

        (victim, *_) = [node["process"] for node in status["nodes"] if 0 in node["partitions"]]
        os.kill(victim, signal.SIGKILL)
        for number in range(20, 40):
            await post(daemon, number)
        await daemon.until(lambda: seen(hook), lambda found: found.keys() == {*range(40)})
        await until_answer(daemon, "status", good=is_fair)

        daemon.configure("30-other", f'[connector.other]\ntype = "http"\nurl = "{hook.url}"\nbody = "single"\n')
        assert (await daemon.run("reload")).returncode == 0
        for number in range(40, 48):
            await post(daemon, number)
        await daemon.until(lambda: seen(hook), lambda found: all(found[n] == 2 for n in range(40, 48)))
        assert await daemon.stop() == 0
        status = await ask(daemon, "status", "--conf", str(daemon.conf))
        assert (status["waiting_partitions"], share(status)) == ([0, 1, 2, 3], [])


@pytest.mark.long  # quicker: tests/unit/plugins/test_file
async def test_each_partition_writes_a_file_of_its_own_in_the_state_folder(daemon: Daemon) -> None:
    async with Destination() as hook:
        configure(daemon, hook)
        daemon.configure("30-archive", ARCHIVE)
        daemon.configure("20-workers", "")
        await daemon.start()
        assert "events_in_journal" not in daemon.logged("relay runs")[0]
        await daemon.until(lambda: daemon.logged("partition runs here"), lambda found: len(found) == PARTITIONS)
        await post_archived(daemon, range(40))
        assert await daemon.stop() == 0

        daemon.configure("20-workers", WORKERS)
        await daemon.start()
        await until_answer(daemon, "status", good=is_fair)
        await post_archived(daemon, range(40, 52))
        assert await daemon.stop() == 0


async def post_archived(daemon: Daemon, numbers: range) -> None:
    """Post events; check that all are in the files, and that each partition has a file."""
    for number in numbers:
        await post(daemon, number)
    found = await daemon.until(lambda: read_archive(daemon), lambda found: found >= {*numbers})
    assert found == {*range(numbers.stop)}
    files = {path.stem.rpartition("-")[2] for path in (daemon.state / "archive").iterdir()}
    assert files == {str(partition) for partition in range(PARTITIONS)}


def read_archive(daemon: Daemon) -> set[int]:
    """Return the numbers of the events in the files."""
    lines = [line for path in (daemon.state / "archive").glob("*") for line in path.read_bytes().splitlines()]
    return {orjson.loads(line)["properties"]["n"] for line in lines}


def seen(hook: Destination) -> Counter[int]:
    """Return how often each event has arrived."""
    return Counter(numbers(hook))
