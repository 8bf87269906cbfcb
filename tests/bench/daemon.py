"""The daemon under test, started as its users start it, and what /proc says about it."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from relay.journal import ledger

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.05
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
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
CONNECTOR: Final = """
[connector.{name}]
type = "http"
url = "http://127.0.0.1:{port}/{name}"
body = "events"
"""


class Daemon:
    """A running relay."""

    def __init__(self, process: Process, state: Path, address: str) -> None:
        self.pid = process.pid
        self.address = address
        self._state = state

    def cpu(self) -> float:
        """CPU seconds that the process and all its descendants have used so far."""
        return sum(map(_cpu, tree(self.pid)))

    def memory(self, field: str = "VmRSS") -> float:
        """MiB of the process and all its descendants; field VmHWM is the most there ever was."""
        return sum(_memory(pid, field) for pid in tree(self.pid))

    async def settled(self, events: int) -> None:
        """Wait until the ledger shows that many accepted events in every lane, and nothing pending."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while any(books.accepted < events or books.pending for books in ledger(self._state).values()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not delivered within {SETTLE_SECONDS} s: {ledger(self._state)}")
            await asyncio.sleep(LOOK_SECONDS)


def tree(pid: int) -> Iterator[int]:
    """A process and its living descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from tree(int(child))


def _cpu(pid: int) -> float:
    """User and system time, and that of children that have ended (proc(5): fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND


def _memory(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


@asynccontextmanager
async def running(folder: Path, connectors: list[str], port: int) -> AsyncIterator[Daemon]:
    """Run relay with these connectors to a port of this machine, everything it keeps in this folder."""
    conf, state = folder / "conf.d", folder / "state"
    conf.mkdir()
    (conf / "bench.toml").write_text(RELAY + "".join(CONNECTOR.format(name=name, port=port) for name in connectors))
    arguments = ["-m", "relay", "run", "--conf", str(conf), "--state", str(state)]
    environment = os.environ | {"BENCHMARK_TOKEN": TOKEN}
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=PIPE, env=environment)
    try:
        address = await _address(process)
        async with asyncio.TaskGroup() as group:
            logs = group.create_task(_show_warnings(process), name="relay's log")
            yield Daemon(process, state, address)
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                await logs
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _address(process: Process) -> str:
    """Where it listens, once it says so."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(START_SECONDS):
        async for line in process.stderr:
            said += line
            if line.startswith(b"{") and (told := json.loads(line))["message"] == "relay runs":
                return str(told["listen"][0]).removeprefix("http://")
    raise RuntimeError(f"relay did not start:\n{said.decode()}")


async def _show_warnings(process: Process) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        if b'"level":"info"' not in line:
            sys.stderr.buffer.write(line)
