"""kill -9 while senders send everything again that was not answered: nothing is lost to the search for duplicates."""

import asyncio
import random
from collections import Counter

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import make_event
from tests.conftest import LONG
from tests.daemon import Daemon

SENDERS, BATCH, KILLS = 4, 25, 8 if LONG else 2
TABLES = """
[source.braze]
type = "currents"
path = "/currents"
dedupe = "1h"

[connector.out]
type = "file"
path = "out.ndjson"
"""


async def send(daemon: Daemon, sent: list[bytes], done: asyncio.Event) -> None:
    """Post one body after the other, each until it is answered 202, and some of them twice at once."""
    while not done.is_set():
        events = [make_event() for _ in range(BATCH)]
        body = b'{"events":[%s]}' % b",".join(events)
        sent += events
        while not await posted(daemon, body):
            await asyncio.sleep(0.01)


async def posted(daemon: Daemon, body: bytes) -> bool:
    """Whether the body was taken, by either of two requests."""
    try:
        answers = await asyncio.gather(daemon.post(body), daemon.post(body))
    except aiohttp.ClientError:
        return False
    assert {status for status, _ in answers} == {202}
    return True


@pytest.mark.slow
@pytest.mark.long  # quicker: test_dedupe
async def test_kill_9_loses_no_event_to_its_twin_and_lets_few_twins_pass(daemon: Daemon) -> None:
    daemon.configure("10-all", TABLES)
    sent: list[bytes] = []
    done, chance = asyncio.Event(), random.Random(5)
    await daemon.start()
    async with asyncio.TaskGroup() as group:
        for number in range(SENDERS):
            group.create_task(send(daemon, sent, done), name=f"sender {number}")
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.4))
            await daemon.kill()
            await daemon.start()
        done.set()
    await daemon.settled("out", len(sent))
    assert await daemon.stop() == 0
    where = ["--state", str(daemon.state), "--conf", str(daemon.conf)]
    dump = CliRunner().invoke(relay, ["journal", "dump", *where]).stdout
    kept = Counter(orjson.loads(line)["event"]["id"] for line in dump.splitlines())
    assert kept.keys() == {orjson.loads(event)["id"] for event in sent}
    assert kept.total() - len(kept) <= KILLS * SENDERS * BATCH
    audit = CliRunner().invoke(relay, ["audit", *where])
    assert audit.exit_code == 0, audit.output
    assert "duplicates left out" in audit.output
