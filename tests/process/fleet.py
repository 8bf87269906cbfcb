"""Several relays on one database, streams of events through them, and what becomes of the events."""

import asyncio
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

from relay.postgres.connection import Database
from relay.postgres.schema import make_tables
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.forks import Forks

PARTITIONS, LEASE_S, WINDOW = 4, 5, 200
PATIENCE = aiohttp.ClientTimeout(total=4)
JOURNAL = """
[journal]
backend = "postgres"
dsn = {{ file = "{dsn}" }}
node = "{node}"
partitions = {partitions}
lease = "{lease}s"
"""
SOURCES = """
[runtime]
drain = "2s"

[source.braze]
type = "currents"
path = "/currents"

[source.once]
type = "currents"
path = "/once"
dedupe = "1h"
"""
CONNECTOR = """
[connector.{name}]
type = "http"
url = "{url}"
events = ["{type}"]
window = {window}
batch = {{ events = 50 }}
retry = {{ first = "50ms", max = "500ms" }}
{settings}
"""


class Arrivals(Destination):
    """A destination that notes when requests arrive, and counts the events that it accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self.accepted = Counter[str]()
        """How often each event was accepted, by its id."""

    def _record(self, request: web.BaseRequest, body: bytes, status: int | None) -> None:
        self.times.append(time.monotonic())
        super()._record(request, body, status)
        if self.requests[-1].taken:
            self.accepted.update(orjson.loads(event)["id"] for event in self.requests[-1].bodies())


class Stream:
    """Events of one type, on their way to one connector."""

    def __init__(self, name: str, type: str, settings: str = "", path: str = "/currents", copies: int = 1) -> None:
        """`copies`: the number of nodes that get each request at once."""
        self.name, self.type, self.settings = name, type, settings
        self._path, self._copies = path, copies
        self.destination = Arrivals()
        self.acknowledged: dict[str, int] = {}
        """Ids of the events that were answered 2xx, with their numbers."""
        self._numbers = itertools.count()

    async def send(self, nodes: Sequence[Daemon]) -> None:
        """Post events to one node after the other until cancelled, whatever the nodes answer."""
        async with aiohttp.ClientSession(timeout=PATIENCE) as session:
            for first in itertools.cycle(range(len(nodes))):
                asked = [nodes[(first + more) % len(nodes)] for more in range(self._copies)]
                numbers = [next(self._numbers) for _ in range(5)]
                events = [make_event(self.type, user={"user_id": f"u{number % 3}"}, n=number) for number in numbers]
                body = b'{"events":[%s]}' % b",".join(events)
                if any(await asyncio.gather(*(self._post(session, node, body) for node in asked))):
                    ids = (orjson.loads(event)["id"] for event in events)
                    self.acknowledged |= dict(zip(ids, numbers, strict=True))
                await asyncio.sleep(0.08)

    async def _post(self, session: aiohttp.ClientSession, node: Daemon, body: bytes) -> bool:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(node.url + self._path, data=body) as answer:
                assert answer.status in (202, 503), (answer.status, await answer.text())
                assert answer.status == 202 or "Retry-After" in answer.headers
                return answer.status == 202
        return False

    def find_missing(self, ids: set[str]) -> set[str]:
        """Return those of the ids that have not arrived."""
        return ids - self.destination.accepted.keys()

    def find_disorder(self) -> list[tuple[int, int]]:
        """Return the acknowledged events of a user that arrived, for the first time, behind a later event."""
        latest, seen, found = defaultdict[str, int](lambda: -1), set[str](), list[tuple[int, int]]()
        for event in self.destination.events():
            number, user = event["properties"]["n"], event["user"]["user_id"]
            if event["id"] in self.acknowledged and event["id"] not in seen:
                seen.add(event["id"])
                if number < latest[user]:
                    found.append((latest[user], number))
                latest[user] = number
        return found

    def find_most(self, seconds: float) -> int:
        """Return the most events that have arrived within so many seconds."""
        counts = [len(request.bodies()) for request in self.destination.requests]
        most = found = first = 0
        for last, at in enumerate(self.destination.times):
            found += counts[last]
            while at - self.destination.times[first] > seconds:
                found -= counts[first]
                first += 1
            most = max(most, found)
        return most

    def find_changed_keys(self, since: int) -> set[str]:
        """Return the ids of the events that have come under several idempotency keys, from a number of requests on."""
        keys = defaultdict[str, set[str]](set)
        for request in self.destination.requests[since:]:
            for body in request.bodies():
                keys[orjson.loads(body)["id"]].add(request.headers["Idempotency-Key"])
        return {event for event, found in keys.items() if len(found) > 1}


class Fleet:
    """Relays that share the partitions of one database."""

    def __init__(self, nodes: Sequence[Daemon], streams: Sequence[Stream]) -> None:
        self.nodes, self.streams = nodes, streams

    @classmethod
    @asynccontextmanager
    async def run(
        cls, folder: Path, forks: Forks, dsns: Sequence[str], streams: Sequence[Stream]
    ) -> AsyncIterator[Self]:
        """Run a relay with each dsn for the body."""
        make_cluster(dsns[-1])
        async with AsyncExitStack() as stack:
            for stream in streams:
                await stack.enter_async_context(stream.destination)
            nodes = [make_node(folder / f"node-{place}", forks, dsn, streams) for place, dsn in enumerate(dsns)]
            for node in nodes:
                stack.push_async_callback(end, node)
                await node.start()
            try:
                yield cls(nodes, streams)
            except BaseException:
                print(describe(nodes))
                raise

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Send events of all streams during the body."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.send(self.nodes), name=f"sender of {each.name}") for each in self.streams]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def deliver_all(self, within: float = 120) -> float:
        """Wait until all events that are acknowledged now have arrived; return the seconds that it took."""
        wanted, began = {stream: set(stream.acknowledged) for stream in self.streams}, time.monotonic()
        while missing := {
            stream.name: len(found) for stream, ids in wanted.items() if (found := stream.find_missing(ids))
        }:
            assert time.monotonic() < began + within, missing
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def audit(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `relay audit` for the connectors, once it balances and nothing is pending."""
        node = self.nodes[0]
        deadline = time.monotonic() + 30
        while True:
            done = await node.run("audit", "--json", "--conf", str(node.conf))
            said = json.loads(done.stdout or b"{}")
            rows = {row["connector"]: row for row in said.get("connectors", [])}
            if done.returncode == 0 and not any(row["pending"] for row in rows.values()):
                return rows
            assert time.monotonic() < deadline, (done, said)
            await asyncio.sleep(0.1)


def make_node(folder: Path, forks: Forks, dsn: str, streams: Sequence[Stream]) -> Daemon:
    """Make a relay that delivers all streams. Starts nothing."""
    node = Daemon(folder, forks)
    use_database(node, dsn)
    node.configure("10-sources", SOURCES)
    for stream in streams:
        told = {"name": stream.name, "type": stream.type, "settings": stream.settings}
        table = CONNECTOR.format(url=stream.destination.url, window=WINDOW, **told)
        node.configure(f"20-{stream.name}", table)
    return node


def describe(nodes: Sequence[Daemon]) -> str:
    """Return the last lines of each node's log."""
    return "\n".join(f"{node.conf.parent.name}: {line}" for node in nodes for line in node.stderr[-30:])


def make_cluster(dsn: str) -> None:
    """Make relay's tables, as `relay journal init` does."""
    with Database(dsn, "relay").connect() as db:
        make_tables(db, PARTITIONS)


def use_database(node: Daemon, dsn: str) -> None:
    """Have a relay keep its events in a database. The node has the name of its folder."""
    folder = node.conf.parent
    secret = folder / "dsn"
    secret.write_text(dsn)
    secret.chmod(0o600)
    node.configure("05-journal", JOURNAL.format(dsn=secret, node=folder.name, partitions=PARTITIONS, lease=LEASE_S))


async def end(node: Daemon) -> None:
    """Kill the relay, if it runs."""
    if node.is_running:
        await node.kill()
