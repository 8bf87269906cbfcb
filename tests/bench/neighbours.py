"""What neighbours take from a connector that is well: plugins that are bad, or a destination that is dead.

`make bench-neighbours`. Its latency and relay's CPU, alone and beside bad plugins, in turns. A request has an event for
that connector, and every fifth one for all the others as well.

`python tests/bench/neighbours.py postgres`, `s3` or `kafka`: its throughput before and after the server of another
connector is killed. Both get every event. Then the server starts again, and has to get all that it missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from cases import MAIN, POSTGRES, S3
from daemon import SOURCE_PATH, TOKEN, running
from measure import free_port
from worker import Worker, working

sys.path.insert(0, str(Path(__file__).parents[2]))

from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.forks import Forks, forks
from tests.process import test_bad_neighbours as bad

ROUNDS: Final = 3
REQUESTS_PER_S: Final = 200
WARM_UP_S: Final = 5.0
"""Until every bad plugin has failed a few times."""
SECONDS: Final = 15.0
PERCENTILES: Final = (50, 90, 99)
TICKS_PER_S: Final = 100
DEAD_ROUNDS: Final = 5
BATCH: Final = 100
EVENTS: Final = 60_000
"""Sent in each part of a round: to warm up, before the death, and after it."""
DEAD_S: Final = 2.0
"""From the death of the server until the next events: its connector has failed a few times by then."""
KAFKA: Final = """
[connector.other]
type = "kafka"
servers = SERVERS
topic = "TOPIC"
"""


async def measure(started: Forks, folder: Path, *, beside: bool) -> str:
    """A line about one run."""
    daemon = Daemon(folder, started)
    async with Destination() as heap:
        if beside:
            bad.write(daemon, heap.url)
        else:
            daemon.configure("10-all", bad.TABLES % heap.url)
        await daemon.start()
        await send(daemon, WARM_UP_S)
        arrived: dict[bytes, float] = {}
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(look(heap, arrived), name="look")
            before = cpu(daemon)
            sent = await send(daemon, SECONDS)
            used = (cpu(daemon) - before) / SECONDS
            async with asyncio.timeout(60):
                while not sent.keys() <= arrived.keys():
                    await asyncio.sleep(0.01)
            looking.cancel()
        await daemon.stop()
    took = sorted(1000 * (arrived[event] - at) for event, at in sent.items())
    found = ", ".join(f"p{share} {took[len(took) * share // 100]:.1f} ms" for share in PERCENTILES)
    return f"{'beside bad plugins' if beside else 'alone':18} {found}, {used:.0%} CPU"


async def send(daemon: Daemon, seconds: float) -> dict[bytes, float]:
    """Send at the rate; return when each of the healthy connector's events was sent."""
    sent: dict[bytes, float] = {}

    async def post(session: aiohttp.ClientSession, events: Sequence[bytes]) -> None:
        sent[events[0]] = time.monotonic()
        async with session.post(f"{daemon.url}/currents", data=b'{"events":[%s]}' % b",".join(events)) as answer:
            answer.raise_for_status()

    began = time.monotonic()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number in range(int(seconds * REQUESTS_PER_S)):
            events = [make_event("users.messages.email.Open", number=number)]
            if number % 5 == 0:
                events.append(make_event(bad.ENTRY, number=number))
            await asyncio.sleep(max(0.0, began + number / REQUESTS_PER_S - time.monotonic()))
            group.create_task(post(session, events))
    return sent


async def look(heap: Destination, arrived: dict[bytes, float]) -> None:
    """Note when each event arrives, to a millisecond or two."""
    seen = 0
    while True:
        now = time.monotonic()
        for request in heap.requests[seen:]:
            arrived |= dict.fromkeys(request.bodies(), now)
            seen += 1
        await asyncio.sleep(0.001)


def cpu(daemon: Daemon) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


class Server(NamedTuple):
    """The server of another connector."""

    conf: str
    """Table of the connector."""
    dsn: str
    kill: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def run_postgres() -> Iterator[Server]:
    """Run PostgreSQL with the table of events."""
    from relay_plugins.postgres.table import make_table
    from tests.postgres.server import run_server

    with run_server() as server:
        server.execute(make_table("events"))
        dsn = f"postgresql://relay@127.0.0.1:{server.port}/postgres"
        yield Server(POSTGRES.replace("main", "other"), dsn, server.kill, server.start)


@contextmanager
def run_s3() -> Iterator[Server]:
    """Run a server of objects, which keeps them while it is away."""
    from tests.object_store import run_object_store

    with run_object_store() as store:
        store.make_bucket("lake")
        conf = S3.replace("main", "other").replace("PORT", str(store.port))
        yield Server(conf, "", store.stop, store.start)


@contextmanager
def run_kafka() -> Iterator[Server]:
    """Run three brokers, of which one dies."""
    from tests.kafka import run_cluster

    with run_cluster() as cluster:
        conf = KAFKA.replace("SERVERS", str(cluster.servers)).replace("TOPIC", cluster.make_topic())
        yield Server(conf, "", lambda: cluster.ask("set_down", 1), lambda: cluster.ask("set_up", 1))


SERVERS: Final = {"postgres": run_postgres, "s3": run_s3, "kafka": run_kafka}


async def measure_death(kind: str, place: Path) -> float:
    """Measure a round, and print it; return the throughput after the server's death, in that before."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=place) as folder, SERVERS[kind]() as server:
        async with (
            working("destination.py", str(port)) as destination,
            running(Path(folder), MAIN + server.conf, port, dsn=server.dsn) as daemon,
            working("sender.py", daemon.address, SOURCE_PATH, TOKEN, str(BATCH)) as sender,
        ):
            await deliver_events(sender, destination, 0)  # warms up
            await daemon.settled(EVENTS)
            before = await deliver_events(sender, destination, EVENTS)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(DEAD_S)
            dead = await deliver_events(sender, destination, 2 * EVENTS)
            await asyncio.to_thread(server.start)
            began = time.monotonic()
            await daemon.settled(3 * EVENTS)
            drained_s = time.monotonic() - began
    print(
        f"{before:,.0f}/s before, {dead:,.0f}/s after: {dead / before:.2f}; drained {drained_s:.1f} s after the start"
    )
    return dead / before


async def deliver_events(sender: Worker, destination: Worker, first: int) -> float:
    """Send events as fast as it goes; return how many a second the healthy connector has delivered."""
    sent = await sender.ask(first=first, seconds=60.0, rate=0, max_events=EVENTS)
    async with asyncio.timeout(60):
        while await destination.ask(do="count", path="/main") < first + EVENTS:
            await asyncio.sleep(0.02)
    (books,) = await destination.ask(do="account", paths=["/main"], events=first + EVENTS)
    if books["lost"]:
        raise RuntimeError(f"{books['lost']} events are lost")
    return float(EVENTS / (books["last"] - sent["begin"]))


async def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dead", nargs="?", choices=SERVERS, help="the server that is killed; without: bad plugins")
    parser.add_argument("--state", type=Path, default=Path("/var/tmp"), metavar="DIR", help="a folder on a real disk")
    given = parser.parse_args()
    if given.dead:
        ratios = [await measure_death(given.dead, given.state) for _ in range(DEAD_ROUNDS)]
        print(f"median after against before: {statistics.median(ratios):.2f}, at least 0.9 wanted")
        return
    with forks() as started, tempfile.TemporaryDirectory() as folder:
        for number in range(2 * ROUNDS):
            print(await measure(started, Path(folder, str(number)), beside=bool(number % 2)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
