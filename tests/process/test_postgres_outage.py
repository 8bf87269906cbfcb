"""The database is away for a while: senders are told to come again, nothing is lost, and relay goes on by itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from relay.testing import make_event
from tests.conftest import LONG
from tests.daemon import Daemon
from tests.forks import Forks
from tests.postgres import Server, run_server
from tests.process.fleet import Fleet, Stream

LARGE = b'{"events":[%s]}' % b",".join(make_event(filling="x" * 1000) for _ in range(500))
IN_FLIGHT = '[ingest]\nmax_in_flight = "8MiB"'
GROWTH_KIB = 40 * 1024


@asynccontextmanager
async def one_relay(folder: Path, forks: Forks, stream: Stream) -> AsyncIterator[tuple[Server, Daemon, Fleet]]:
    with run_server() as server:
        stream.settings = IN_FLIGHT
        async with Fleet.run(folder, forks, [server.dsn], [stream]) as fleet:
            yield server, fleet.nodes[0], fleet


async def ask(node: Daemon) -> tuple[int, str | None]:
    """Post many events; return the status and the Retry-After of the answer."""
    async with aiohttp.request("POST", f"{node.url}/currents", data=LARGE) as answer:
        return answer.status, answer.headers.get("Retry-After")


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", ["refuses", "hangs"] if LONG else ["refuses"])
async def test_senders_come_again_while_the_database_is_away(tmp_path: Path, relay_forks: Forks, way: str) -> None:
    stream = Stream("plain", "users.messages.email.Open")
    async with one_relay(tmp_path, relay_forks, stream) as (server, node, fleet):
        async with fleet.under_load():
            while len(stream.acknowledged) < 50:
                await asyncio.sleep(0.01)
            server.freeze() if way == "hangs" else await asyncio.to_thread(server.stop)
            while (await ask(node))[0] == 202:
                pass
            before = node.memory_kib()
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(node), name=f"sender {number}") for number in range(100)]
            assert {status for status, _ in (one.result() for one in asked)} == {503}
            assert all(int(again or 0) > 0 for _, again in (one.result() for one in asked))
            assert node.memory_kib() - before < GROWTH_KIB
            server.thaw() if way == "hangs" else await asyncio.to_thread(server.start)
            began = time.monotonic()
            while (await ask(node))[0] == 503:
                await asyncio.sleep(0.05)
            print(f"events are taken {time.monotonic() - began:.1f} s after the database is back")
        await fleet.deliver_all()
        await fleet.audit()
        assert len(node.logged("relay runs")) == 1
        await node.until(lambda: node.logged("the database is back"), bool)  # after a second without a failure
        said = [line for line in node.logs if line["level"] == "error" or line["message"] == "the database is back"]
        assert [line["message"] for line in said] == ["the database is away", "the database is back"]
        assert "PostgreSQL: " in said[0]["reason"]
        assert await node.stop() == 0
