"""What takes longer than a moment: a million events, a dead destination and its backlog, starts."""

import asyncio
import random
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
from cases import MAIN
from daemon import SOURCE_PATH, TOKEN, Daemon, running
from figures import milliseconds
from machine import Noise
from measure import free_port
from worker import Worker, working

from relay.api import Kind
from relay.journal.writer import Writer
from relay.sandbox.shapes import list_types, make_event
from relay.store.log import JournalLimits

BATCH: Final = 100
PARTS: Final = 5
FOREVER: Final = 600.0
"""Seconds: the number of events ends these runs."""
EARLY: Final = 200_000
"""Events after which memory is at its bound."""
LIVE_RATE, LIVE_BATCH = 2000, 10
LIVE_SECONDS: Final = 3.0
STARTS: Final = 3
COMMANDS: Final = 5
MANY_WORKERS: Final = 16
DRAIN: Final = '[runtime]\ndrain = "1s"\n'
GROUP_EVENTS: Final = 5000
CHECKED: Final = Path(__file__).parents[2] / "conf.d"


async def lasting(events: int, place: Path) -> dict[str, float]:
    """A load that lasts: what relay's own code takes for the last part of it, in relation to the second.

    In the first part memory grows to its bound. Seconds, and CPU in the kernel, would tell of the disk and of other
    processes. The sender's work is the same in each part, so its CPU tells how quick the machine is meanwhile.
    """
    port, noise, sent = free_port(), Noise(), 0
    with TemporaryDirectory(prefix="relay-bench-", dir=place) as folder:
        async with working("destination.py", str(port)) as destination, running(Path(folder), MAIN, port) as daemon:
            cpu, in_senders = daemon.cpu(), []
            for _ in range(PARTS):
                user = daemon.user_cpu()
                part = await _fill(daemon, events // PARTS, first=sent)
                sent += part["events"]
                await daemon.settled(sent)
                in_senders.append((daemon.user_cpu() - user) / part["cpu_s"])
            (books,) = await destination.ask(do="account", paths=["/main"], events=sent)
            figures = {"cpu_us": (daemon.cpu() - cpu) / sent * 1e6, "peak_mb": daemon.memory("VmHWM")}
    figures |= {"last_to_second": in_senders[-1] / in_senders[1]}
    return figures | {"lost": books["lost"], "duplicates": books["duplicates"]} | noise.measured()


async def _fill(daemon: Daemon, events: int, first: int = 0) -> Any:
    async with working("sender.py", daemon.address, SOURCE_PATH, TOKEN, str(BATCH)) as sender:
        return await sender.ask(first=first, seconds=FOREVER, rate=0, max_events=events)


async def backlog(events: int, place: Path) -> dict[str, float]:
    """A dead destination while events come; starts on top of what has piled up; and how fast that drains once the
    destination is back, while live events go on."""
    port, noise = free_port(), Noise()
    with TemporaryDirectory(prefix="relay-bench-", dir=place) as name:
        folder = Path(name)
        async with running(folder, MAIN + DRAIN, port) as daemon:
            early = min(EARLY, events * 2 // 3)
            await _fill(daemon, early)
            before = daemon.memory("VmHWM")
            sent = await _fill(daemon, events - early, first=early)
            growth = daemon.memory("VmHWM") / before - 1
        stored = early + sent["events"]
        starts = [await _ready_seconds(folder, port) for _ in range(STARTS)]
        figures = {"memory_growth": growth, "ready_s": sorted(starts)[STARTS // 2]}
        async with (
            working("destination.py", str(port), "hold") as destination,
            running(folder, MAIN + DRAIN, port) as daemon,
        ):
            figures |= await _drain(daemon, destination, stored)
    return figures | noise.measured()


async def _ready_seconds(folder: Path, port: int) -> float:
    async with running(folder, MAIN + DRAIN, port) as daemon:
        return daemon.ready_s


async def _drain(daemon: Daemon, destination: Worker, stored: int) -> dict[str, float]:
    async with working("sender.py", daemon.address, SOURCE_PATH, TOKEN, str(LIVE_BATCH)) as sender:
        cpu = daemon.cpu()
        async with asyncio.TaskGroup() as group:
            asked = sender.ask(first=stored, seconds=LIVE_SECONDS, rate=LIVE_RATE, max_events=stored)
            live = group.create_task(asked, name="live events")
            begin = await destination.ask(do="answer")
        events = stored + live.result()["events"]
        await daemon.settled(events)
        cpu = daemon.cpu() - cpu
    (end,) = await destination.ask(do="passed", path="/main", counts=[stored])
    (books,) = await destination.ask(do="account", paths=["/main"], events=events)
    figures = {"drained_per_s": stored / (end - begin), "cpu_us": cpu / events * 1e6, "lost": books["lost"]}
    return figures | milliseconds("ack", live.result()["ack_s"])


async def starts(place: Path) -> dict[str, float]:
    """From nothing to ready, and how much memory that takes. How long commands take: `relay --help`, `relay check` of
    the shipped conf.d, and `relay status` with one worker and with many."""
    noise = Noise()
    with TemporaryDirectory(prefix="relay-bench-", dir=place) as folder:
        async with running(Path(folder), MAIN, free_port()) as daemon:
            figures = {"ready_s": daemon.ready_s, "ready_cpu_s": daemon.cpu(), "idle_mb": daemon.memory()}
            figures["status_s"] = await _run_seconds("status", "--state", f"{folder}/state")
    with TemporaryDirectory(prefix="relay-bench-", dir=place) as folder:
        async with running(Path(folder), MAIN, free_port(), MANY_WORKERS):
            figures["status_of_many_s"] = await _run_seconds("status", "--state", f"{folder}/state")
    figures |= {"help_s": await _run_seconds("--help"), "check_s": await _run_seconds("check", str(CHECKED))}
    return figures | noise.measured()


async def _run_seconds(*arguments: str) -> float:
    """Run a command of relay a few times; return the median of seconds."""
    seconds = []
    for _ in range(COMMANDS):
        begin = time.monotonic()
        command = [sys.executable, "-m", "relay", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        if code := await process.wait():
            raise RuntimeError(f"relay {' '.join(arguments)} has ended with {code}")
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


def retain(folder: Path, size: int) -> None:
    """Write a journal of so many bytes that somebody settled long ago. Blocking."""
    rng = random.Random(1)
    kinds, bodies = [], []
    known = {name: Kind("braze", name) for name in list_types()}
    for _ in range(GROUP_EVENTS):
        name = rng.choice(list_types())
        kinds.append(known[name])
        bodies.append(orjson.dumps(make_event(name, rng, time.time())))
    writer = Writer(folder, JournalLimits(max_size=2 * size, retention=FOREVER))
    while writer.size < size:
        writer.write(kinds, bodies)
    writer.close()
