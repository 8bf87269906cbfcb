"""Several real relays on one PostgreSQL, each with a conf.d and a folder of its own, and a sender that goes round."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import aiohttp
import msgspec
import orjson
from aiohttp import web

from relay.postgres.connection import Database
from relay.status.model import Status
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.forks import Forks
from tests.postgres import Server

LEASE_S: Final = 3
WINDOW: Final = 200
REQUEST_S: Final = 2.0
"""Seconds that the sender waits for an answer. Then it cannot know whether its events were taken."""
WITHIN_S: Final = 60.0
EVENTS: Final = 10
"""Events in a request."""
LOST: Final = "partition ends here, its deliveries under way are cut short"
"""What a relay logs that has not renewed a lease in time: it stood still, or the machine is too busy."""
EMAIL: Final = "users.messages.email.Open"


class Numbered(Destination):
    """A destination that counts how often it has accepted each event, as events come: tests look often."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = Counter[int]()
        """By the events' numbers."""

    def _record(self, request: web.BaseRequest, body: bytes, status: int | None) -> None:
        super()._record(request, body, status)
        if self.requests[-1].taken:
            self.arrived.update(orjson.loads(event)["properties"]["number"] for event in self.requests[-1].bodies())


class Node(Daemon):
    """A relay that shares the partitions of a cluster."""

    def __init__(self, name: str, folder: Path, forks: Forks) -> None:
        super().__init__(folder, forks)
        self.name = name

    @property
    def has_failed(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.returncode not in (None, 0, -signal.SIGKILL)


def configure_hook(node: Node, name: str, destination: Destination) -> None:
    """Write a connector of a node that delivers to a destination."""
    node.configure(
        f"20-{name}",
        f"""
        [connector.{name}]
        type = "http"
        url = "{destination.url}"
        retry = {{ max = "1s" }}
        window = {WINDOW}
        batch = {{ events = 50, age = "50ms" }}
        """,
    )


class Cluster:
    """The relays on one schema, and what they deliver to."""

    def __init__(
        self, folder: Path, forks: Forks, destination: Numbered, partitions: int, server: Server, dsn: str = ""
    ) -> None:
        """`dsn`: how relays connect; directly by default."""
        self._folder, self._forks, self._partitions = folder, forks, partitions
        self.database: Database = server.make_database(partitions)
        self.destination, self.nodes = destination, dict[str, Node]()
        self._dsn = folder / "dsn"
        self._dsn.write_text(dsn or server.dsn)

    def make(self, name: str, folder: str = "") -> Node:
        """Make a relay that does not run yet. `folder`: its folder; by default its name."""
        node = Node(name, self._folder / (folder or name), self._forks)
        node.configure(
            "05-journal",
            f"""
            [journal]
            backend = "postgres"
            dsn = {{ file = "{self._dsn}" }}
            schema = {self.database.schema}
            node = "{name}"
            partitions = {self._partitions}
            lease = "{LEASE_S}s"
            """,
        )
        node.configure("10-source", '[source.braze]\ntype = "currents"\npath = "/currents"')
        configure_hook(node, "hook", self.destination)
        return node

    async def start(self, *names: str) -> None:
        """Start relays, and wait until all partitions are shared out among those that run."""
        for name in names:
            self.nodes[name] = self.nodes.get(name) or self.make(name)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self.nodes[name].start(), name=f"start {name}")
        await self.until_shared()

    def read_holders(self) -> dict[int, str]:
        """Return the node that has the lease of each partition; free partitions are not there."""
        with self.database.use() as db:
            rows = db.run("SELECT partition, node FROM $.lease WHERE until > clock_timestamp() ORDER BY 1")
            return dict(rows.fetchall())

    async def until(self, what: str, is_so: Callable[[], bool]) -> float:
        """Wait until something is so; return the seconds that it took."""
        began = time.monotonic()
        while not await asyncio.to_thread(is_so):
            passed = time.monotonic() - began
            is_good = passed < WITHIN_S and not any(node.has_failed for node in self.nodes.values())
            assert is_good, f"{what}: not after {passed:.0f} s; {self.read_holders()}\n{self._read_logs()}"
            await asyncio.sleep(min(max(passed / 10, 0.1), 0.25))  # each look costs CPU that relays need
        return time.monotonic() - began

    async def until_shared(self, *names: str) -> float:
        """Wait until the partitions are shared out evenly among relays, by default all; return the seconds."""
        wanted = set(names or self.nodes)

        def is_shared() -> bool:
            holders = self.read_holders()
            shares = Counter(dict.fromkeys(wanted, 0) | Counter(holders.values()))
            is_even = max(shares.values()) - min(shares.values()) <= 1
            return len(holders) == self._partitions and shares.keys() == wanted and is_even

        return await self.until(f"the partitions are shared among {sorted(wanted)}", is_shared)

    def _read_logs(self) -> str:
        return "\n".join(f"{name}: {line}" for name, node in self.nodes.items() for line in node.stderr[-15:])

    def command(self, name: str, *arguments: str) -> CompletedProcess[bytes]:
        """Run a command with conf.d and state folder of a node."""
        node = self.nodes[name]
        return self._forks.run(*arguments, "--conf", str(node.conf), "--state", str(node.state))

    def read_status(self, name: str) -> Status:
        """Return what `relay status` says at a node."""
        done = self.command(name, "status", "--json")
        assert done.stdout, done.stderr.decode()
        return msgspec.json.decode(done.stdout, type=Status)

    def read_pending(self, name: str) -> int:
        """Return the pending events of all connectors, as a node says."""
        return sum(lane.pending for lane in self.read_status(name).lanes)

    async def assert_balanced(self, name: str) -> None:
        """Check by `relay audit` at a node that nothing has vanished."""
        done = await asyncio.to_thread(self.command, name, "audit")
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    async def end(self) -> None:
        """End all relays."""
        for node in self.nodes.values():
            if node.is_running:
                await node.kill()
        self.database.close()


class RoundSender:
    """Sends numbered events to one relay after the other, and again what no relay has answered with 2xx."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.accepted: list[int] = []
        self.uncertain: set[int] = set()
        """Events that were sent again, though a relay may have taken them the first time."""
        self.killed = 0
        """Partitions whose process was killed: a test counts them."""
        self._stopped = False

    async def run(self) -> None:
        """Send until `stop`."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(REQUEST_S)) as session:
            turns = count()
            for first in count(0, EVENTS):
                numbers = [*range(first, first + EVENTS)]
                while not await self._send(session, numbers, next(turns)):
                    await asyncio.sleep(0.05)
                self.accepted += numbers
                if self._stopped:
                    return
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        """Send nothing more once the present events are taken."""
        self._stopped = True

    def assert_few_twice(self) -> None:
        """Check that no more events have arrived again than the windows of the taken over partitions allow. An event
        that two relays may have taken does not count."""
        arrived = self._cluster.destination.arrived
        again = sum(times - 1 for number, times in arrived.items() if number not in self.uncertain)
        lost = sum(len(node.logged(LOST)) for node in self._cluster.nodes.values())
        print(f"{len(self.accepted):,} events, {again:,} of them twice, {self.killed + lost} partitions taken over")
        assert again <= WINDOW * (self.killed + lost)

    async def _send(self, session: aiohttp.ClientSession, numbers: list[int], turn: int) -> bool:
        running = [node for node in self._cluster.nodes.values() if node.is_running and node.url]
        if not running:
            return False
        events = [make_numbered(number) for number in numbers]
        url = running[turn % len(running)].url + "/currents"
        try:
            async with session.post(url, data=orjson.dumps({"events": events})) as answer:
                assert answer.status in (202, 503), await answer.text()
                return answer.status == 202
        except aiohttp.ClientConnectorError:
            return False
        except (aiohttp.ClientError, TimeoutError):
            self.uncertain.update(numbers)
            return False


def make_numbered(number: int) -> dict[str, object]:
    """Make an event that says its number."""
    event: dict[str, object] = orjson.loads(make_event(EMAIL))
    return event | {"id": f"id-{number}", "properties": {"number": number}}


@asynccontextmanager
async def send_round(cluster: Cluster) -> AsyncIterator[RoundSender]:
    """Send to the relays of a cluster while the body runs; check then that every event has arrived, and that the audit
    balances."""
    sender = RoundSender(cluster)
    async with asyncio.TaskGroup() as group:
        group.create_task(sender.run(), name="sender")
        try:
            yield sender
        finally:
            sender.stop()
    hook = cluster.destination
    await cluster.until("every accepted event arrives", lambda: {*sender.accepted} <= hook.arrived.keys())
    sender.assert_few_twice()
    running = next(name for name, node in cluster.nodes.items() if node.is_running)
    await cluster.until("nothing is pending", lambda: cluster.read_pending(running) == 0)
    await cluster.assert_balanced(running)
