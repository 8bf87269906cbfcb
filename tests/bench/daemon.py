"""The daemon under test, started as its users start it, and what /proc says about it."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from machine import TICKS_PER_SECOND

from relay.state.ledger import read_ledger

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 180.0
LOOK_SECONDS: Final = 0.05
KIB: Final = 1024
MB: Final = 1e6
CPU_CLOCK: Final = 2
"""What the kernel calls CPUCLOCK_SCHED."""
SOURCE_PATH: Final = "/currents"
TOKEN: Final = "benchmark-token"

RELAY: Final = f"""
[ingest]
listen = "127.0.0.1:0"

[source.braze]
type = "currents"
path = "{SOURCE_PATH}"
tokens = [{{ env = "BENCHMARK_TOKEN" }}]
"""


class Daemon:
    """A running relay."""

    def __init__(self, process: Process, state: Path, address: str, ready_s: float) -> None:
        self.pid = process.pid
        self.address = address
        self.ready_s = ready_s
        """From the start of the process until /readyz said 200."""
        self._state = state

    def cpu(self) -> float:
        """CPU seconds that the process and all its descendants have used so far."""
        return sum(map(process_cpu, tree(self.pid)))

    def user_cpu(self) -> float:
        """The part of `cpu` outside the kernel, in ticks (proc(5): field 14)."""
        return sum(int(_stat(pid)[11]) for pid in tree(self.pid)) / TICKS_PER_SECOND

    def memory(self, field: str = "VmRSS") -> float:
        """MB of the process and all its descendants; field VmHWM is the most there ever was."""
        return sum(_memory(pid, field) for pid in tree(self.pid))

    def journal_bytes(self) -> int:
        """What the records in the journal take; the last segment has room for more."""
        *full, last = sorted(self._state.rglob("[0-9]*.log"))
        return sum(segment.stat().st_size for segment in full) + len(last.read_bytes().rstrip(b"\0"))

    async def settled(self, events: int) -> None:
        """Wait until the ledger shows that many accepted events in every lane, and nothing pending."""

        async def is_settled() -> bool:
            return all(books.accepted >= events and not books.pending for books in read_ledger(self._state).values())

        await until(is_settled)


async def until(good: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until it is good. Raises TimeoutError."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not await good():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not delivered within {SETTLE_SECONDS} s")
        await asyncio.sleep(LOOK_SECONDS)


def tree(pid: int) -> Iterator[int]:
    """A process and its living descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from tree(int(child))


def process_cpu(pid: int) -> float:
    """User and system time to the nanosecond, for some runs are short (the clock id is what clock_getcpuclockid(3)
    gives); and that of children that have ended, in ticks (proc(5): fields 16 and 17)."""
    return time.clock_gettime(~pid << 3 | CPU_CLOCK) + sum(map(int, _stat(pid)[13:15])) / TICKS_PER_SECOND


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _memory(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * KIB / MB


@asynccontextmanager
async def running(folder: Path, conf: str, port: int, workers: int = 1, dsn: str = "") -> AsyncIterator[Daemon]:
    """Run relay with these tables, PORT in them being a port of this machine; everything it keeps is in this folder."""
    confd, state = folder / "conf.d", folder / "state"
    confd.mkdir(exist_ok=True)
    more = f"\n[runtime]\nworkers = {workers}\n" if workers > 1 else ""
    (confd / "bench.toml").write_text(RELAY + more + conf.replace("PORT", str(port)))
    arguments = ["-m", "relay", "run", "--conf", str(confd), "--state", str(state)]
    environment = os.environ | {"BENCHMARK_TOKEN": TOKEN, "BENCHMARK_DSN": dsn}
    begin = time.monotonic()
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=PIPE, env=environment)
    try:
        address = (await find_address(process, "relay runs")).removeprefix("http://")
        await asyncio.to_thread(_be_ready, address)
        ready_s = time.monotonic() - begin
        async with asyncio.TaskGroup() as group:
            logs = group.create_task(_show_warnings(process), name="relay's log")
            yield Daemon(process, state, address, ready_s)
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                await logs
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def find_address(process: Process, message: str) -> str:
    """Where a process listens, once its log says so with this message."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(START_SECONDS):
        async for line in process.stderr:
            said += line
            if line.startswith(b"{") and (told := json.loads(line))["message"] == message:
                return str(told["listen"][0])
    raise RuntimeError(f"it did not start:\n{said.decode()}")


def _be_ready(address: str) -> None:
    """Raises HTTPError if it said too early that it runs."""
    with urlopen(f"http://{address}/readyz", timeout=START_SECONDS) as answer:
        answer.read()


async def _show_warnings(process: Process) -> None:
    """Pass on what relay says, but for what was to be expected."""
    assert process.stderr is not None
    async for line in process.stderr:
        told: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
        if told.get("level") != "info" and told.get("message") != "delivery failed, will be tried again":
            sys.stderr.buffer.write(line)
