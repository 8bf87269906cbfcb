"""What the numbers depend on that is not relay: the machine, and how busy others keep it."""

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

LOOP_STEPS: Final = 500_000
LOOPS: Final = 5
MATTERS: Final = ("aiohttp", "uvloop", "msgspec", "orjson", "isal")


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


def loop_ms() -> float:
    """Milliseconds that a fixed piece of Python takes right now, the median of a few."""
    return statistics.median(_loop_ms() for _ in range(LOOPS))


def _loop_ms() -> float:
    begin, total = time.perf_counter(), 0
    for number in range(LOOP_STEPS):
        total += number
    return (time.perf_counter() - begin) * 1e3


class Steal:
    """The share of wanted CPU time that the hypervisor gave to others; /proc counts it as if it had been used."""

    def __init__(self) -> None:
        self._begin = _times()

    def share(self) -> float:
        """0 to 1, since the start."""
        user, nice, system, _, _, irq, soft, stolen = (
            now - then for now, then in zip(_times(), self._begin, strict=True)
        )
        return stolen / max(1, user + nice + system + irq + soft + stolen)


def _times() -> list[int]:
    """Ticks of all CPUs (proc(5)): user nice system idle iowait irq softirq steal."""
    return [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]
