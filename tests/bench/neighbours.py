"""What bad plugins take from a connector that is well: its latency and relay's CPU, alone and beside them, in turns.

`make bench-neighbours`. A request has an event for that connector, and every fifth one for all the others as well.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp

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


async def main() -> None:
    """Measure in turns."""
    with forks() as started, tempfile.TemporaryDirectory() as folder:
        for number in range(2 * ROUNDS):
            print(await measure(started, Path(folder, str(number)), beside=bool(number % 2)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
