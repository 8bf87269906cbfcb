"""What the numbers depend on that is not relay: the machine, and how busy others keep it."""

import asyncio
import os
import platform
import resource
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

LOOP_STEPS: Final = 500_000
LOOPS: Final = 5
MATTERS: Final = ("aiohttp", "uvloop", "msgspec", "orjson", "isal")
WORK: Final = "import time; sum(number * number for number in range(5_000_000)); print(time.process_time())"
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def describe() -> dict[str, Any]:
    """Python, kernel, CPUs, and the versions of the packages that matter; None for one that is not installed."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "versions": {name: _version(name) for name in MATTERS},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@contextmanager
def on_cpus(cpus: Collection[int]) -> Iterator[None]:
    """Have the processes that are started meanwhile run on these CPUs alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def cores() -> dict[str, float]:
    """How many CPUs' work all CPUs do at once: less than their number if some of them share a core."""
    noise, cpus = Noise(), len(os.sched_getaffinity(0))
    return {"cores": cpus * await _busy_seconds(1) / await _busy_seconds(cpus)} | noise.measured()


async def _busy_seconds(processes: int) -> float:
    """CPU seconds of a fixed piece of work, in so many processes at once; the mean."""
    started = [await asyncio.create_subprocess_exec(sys.executable, "-c", WORK, stdout=PIPE) for _ in range(processes)]
    return statistics.mean([float((await process.communicate())[0]) for process in started])


def loop_ms() -> float:
    """Milliseconds that a fixed piece of Python takes right now, the median of a few."""
    return statistics.median(_loop_ms() for _ in range(LOOPS))


def _loop_ms() -> float:
    begin, total = time.perf_counter(), 0
    for number in range(LOOP_STEPS):
        total += number
    return (time.perf_counter() - begin) * 1e3


class Noise:
    """Who else used the machine's CPUs since the start: other processes, and the hypervisor's other guests."""

    def __init__(self) -> None:
        self._loop_ms = loop_ms()
        self._begin, self._times, self._own = time.monotonic(), _times(), _own()

    def measured(self) -> dict[str, float]:
        """The fixed loop before the start (ms); the share of wanted CPU time that the hypervisor gave to others
        (`steal`); and how many CPUs other processes used (`others`). Call it when our own processes have ended."""
        user, nice, system, _, _, irq, soft, stolen = (
            now - then for now, then in zip(_times(), self._times, strict=True)
        )
        used = user + nice + system + irq + soft
        others = used / TICKS_PER_SECOND - (_own() - self._own)
        return {
            "loop_ms": self._loop_ms,
            "steal": stolen / max(1, used + stolen),
            "others": max(0.0, others / (time.monotonic() - self._begin)),
        }


def _times() -> list[int]:
    """Ticks of all CPUs (proc(5)): user nice system idle iowait irq softirq steal."""
    return [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]


def _own() -> float:
    """CPU seconds of this process and of all its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
