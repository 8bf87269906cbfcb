"""One of three destinations is dead for hours: memory stays flat, the others keep their speed, and then it drains.

Eight hours at 20 events/s are 576,000 events; they are sent as fast as they are taken. `make faults` sends them all,
`make test` a twenty-fourth of them, without judging speed.
"""

import asyncio
import itertools
import re
import statistics
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest

from relay.testing import make_event
from tests.conftest import LONG
from tests.daemon import Daemon

pytestmark = pytest.mark.slow

EVENTS, ROUNDS, SECONDS, FLAT_KIB = (576_000, 3, 5, 12 * 1024) if LONG else (24_000, 1, 0.5, 5 * 1024)
BATCH, SENDERS = 100, 8
TEMPLATE = make_event("users.messages.email.Open", filling="x" * 500).replace(b'"id":"', b'"id":"%s', 1)
ID = re.compile(rb'"id":"(\w+-\d+)-')
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"


class Sink(asyncio.Protocol):
    """One connection of a destination that only counts; while it is dead it says 503, hangs or hangs up in turn."""

    def __init__(self, shared: "Shared") -> None:
        self.shared = shared
        self.data = bytearray()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        head = self.data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = int(re.search(rb"(?i)content-length: (\d+)", self.data[:head])[1])  # type: ignore[index]
        if len(self.data) >= head + 4 + length:
            body = bytes(self.data[head + 4 :])
            self.data.clear()
            self.shared.answer(self.transport, body)


class Shared:
    """A destination: what it has got."""

    def __init__(self) -> None:
        self.got = Counter[bytes]()
        self.latencies: list[float] = []
        self.dead = False
        self.moods = itertools.cycle(("busy", "hang up", "hang"))
        self.url = ""

    def answer(self, transport: Any, body: bytes) -> None:
        mood = next(self.moods) if self.dead else "well"
        if mood == "busy":
            transport.write(BUSY)
        elif mood == "hang up":
            transport.abort()
        elif mood == "well":
            transport.write(OK)
            ids = ID.findall(body)
            self.got.update(ids)
            now = time.monotonic_ns()
            self.latencies += [(now - int(one[5:])) / 1e6 for one in ids if one.startswith(b"live-")]

    async def serve(self) -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(lambda: Sink(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        return server


def body_of(ids: list[bytes]) -> bytes:
    return b'{"events":[%s]}' % b",".join(TEMPLATE.replace(b"%s", one + b"-") for one in ids)


async def flood(daemon: Daemon, name: str, sinks: list[Shared]) -> float:
    """Send EVENTS as fast as they are taken; events per second until these sinks have them all."""
    numbers = iter(range(0, EVENTS, BATCH))
    before = [sink.got.total() for sink in sinks]

    async def send(session: aiohttp.ClientSession) -> None:
        for first in numbers:
            body = body_of([b"%s-%d" % (name.encode(), n) for n in range(first, first + BATCH)])
            async with session.post(f"{daemon.url}/currents", data=body) as answer:
                assert answer.status == 202

    began = time.monotonic()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(send(session))
    async with asyncio.timeout(120):
        while any(sink.got.total() - had < EVENTS for sink, had in zip(sinks, before, strict=True)):
            await asyncio.sleep(0.005)
    return EVENTS / (time.monotonic() - began)


async def trickle(daemon: Daemon, seconds: float, sink: Shared) -> tuple[list[float], list[float]]:
    """1,000 events a second in batches of 10: milliseconds until each answer, and until the sink had each event."""
    sink.latencies.clear()
    acks: list[float] = []
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while (due := time.monotonic()) < end:
            stamp = time.monotonic_ns()
            async with session.post(
                f"{daemon.url}/currents", data=body_of([b"live-%d" % (stamp + n) for n in range(10)])
            ) as answer:
                assert answer.status == 202
            acks.append((time.monotonic() - due) * 1e3)
            await asyncio.sleep(max(0, 0.01 - (time.monotonic() - due)))
    await asyncio.sleep(0.1)
    return acks, list(sink.latencies)


async def watch_memory(daemon: Daemon, found: list[int]) -> None:
    while True:
        found.append(daemon.memory_kib())
        await asyncio.sleep(0.05)


def percentiles(found: list[float]) -> str:
    cuts = statistics.quantiles(found, n=100)
    return f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms"


@pytest.mark.promise(3)
@pytest.mark.timeout(1800)
@pytest.mark.long  # quicker: test_faults and test_memory
async def test_a_destination_that_is_dead_for_hours_costs_disk_and_nothing_else(daemon: Daemon) -> None:
    sinks = [Shared() for _ in range(3)]
    servers = [await sink.serve() for sink in sinks]
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure("15-journal", '[journal]\nmemory="1MiB"')
    retry = 'timeout="2s"\nretry={first="100ms",max="1s"}'
    for number, sink in enumerate(sinks):
        daemon.configure(f"20-{number}", f'[connector.to{number}]\ntype="http"\nurl="{sink.url}"\n{retry}')
    await daemon.start()
    others, dead, memory = sinks[:2], sinks[2], list[int]()
    with_it, without_it = [], []
    calm = await trickle(daemon, SECONDS, others[0])
    for number in range(ROUNDS):
        with_it.append(await flood(daemon, f"calm{number}", sinks))
        dead.dead = True
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch_memory(daemon, memory))
            without_it.append(await flood(daemon, f"dead{number}", others))
            watching.cancel()
        backlog = daemon.ledger()["to2"].pending
        dead.dead = False
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            live = group.create_task(trickle(daemon, SECONDS, others[0]))
            await daemon.until(lambda: daemon.ledger()["to2"].pending, lambda pending: pending < 1000, 300)
            drained = backlog / (time.monotonic() - began)
        await daemon.until(lambda: {len(sink.got) for sink in sinks}, lambda found: len(found) == 1)
        await daemon.until(lambda: daemon.ledger()["to2"].accepted, lambda accepted: accepted == len(dead.got))
    accepted = daemon.ledger()["to2"].accepted
    for sink in sinks:
        assert sink.got.total() >= accepted
        assert len(sink.got) == accepted
    twice = [sink.got.total() - accepted for sink in sinks]
    quarter = len(memory) // ROUNDS // 4
    growth = statistics.median(memory[3 * quarter : 4 * quarter]) - statistics.median(memory[quarter : 2 * quarter])
    ratio = statistics.median(without_it) / statistics.median(with_it)
    print(
        f"\n{EVENTS:,} events, {ROUNDS} rounds: {statistics.median(with_it):,.0f}/s with three destinations,"
        f" {statistics.median(without_it):,.0f}/s with one of them dead (ratio {ratio:.2f});"
        f" memory {memory[0]:,} KiB, at most {max(memory):,}, grew {growth:,.0f} in the second half;"
        f" backlog of {backlog:,} drained at {drained:,.0f}/s or more;"
        f" ack {percentiles(calm[0])} calm, {percentiles(live.result()[0])} while draining;"
        f" end to end {percentiles(calm[1])} calm, {percentiles(live.result()[1])} while draining; sent twice: {twice}"
    )
    assert growth < FLAT_KIB
    assert twice[:2] == [0, 0]
    assert twice[2] == 0  # it took nothing while it was dead
    if LONG:
        assert ratio >= 0.9
        assert statistics.median(live.result()[1]) < 3 * statistics.median(calm[1])
    assert await daemon.stop() == 0
    for server in servers:
        server.close()
