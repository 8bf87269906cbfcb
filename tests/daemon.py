"""Run a real relay in a process of its own, as users run relay."""

import asyncio
import io
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

import aiohttp

from relay.state.ledger import read_ledger
from relay.store import Ledger, Parked
from tests.forks import Forked, Forks
from tests.parked import list_parked

T = TypeVar("T")


class Daemon:
    """relay with a conf.d, a state folder and a plugin folder of its own."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self._forks = forks
        self.conf, self.state, self.plugins = folder / "conf.d", folder / "state", folder / "plugins"
        for place in (self.conf, self.plugins):
            place.mkdir(parents=True)
        self.stdout = folder / "stdout"
        self.logs: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self.url = ""
        self.wrapper: list[str] = []
        """A command that runs relay in a new interpreter."""
        self.before = ""
        """Python that the process of relay runs first, without a wrapper."""
        self.inherits: list[int] = []
        """Descriptors that the process has besides its streams."""
        self.module = "relay"
        """What is run in its place, without a wrapper."""
        self._process: asyncio.subprocess.Process | Forked | None = None
        self._reading: asyncio.Task[None] | None = None
        self.configure("00-ingest", '[ingest]\nlisten = "127.0.0.1:0"')

    def configure(self, name: str, text: str) -> None:
        (self.conf / f"{name}.toml").write_text(text)

    async def start(self) -> None:
        await self.launch()
        async with asyncio.timeout(60):
            while not (runs := self.logged("relay runs")[self._starts :]):
                assert self._process is not None
                assert self._process.returncode is None, "\n".join(self.stderr)
                await asyncio.sleep(0.01)
        self.url = runs[-1]["listen"][0]

    async def launch(self) -> None:
        """Start the process without waiting until it is ready."""
        self._starts = len(self.logged("relay runs"))
        arguments = ["run", "--conf", str(self.conf), "--state", str(self.state), "--plugins", str(self.plugins)]
        with self.stdout.open("ab") as out:
            if self.wrapper:
                self._process = await asyncio.create_subprocess_exec(
                    *self.wrapper,
                    sys.executable,
                    "-m",
                    "relay",
                    *arguments,
                    stdout=out,
                    stderr=asyncio.subprocess.PIPE,
                    limit=1 << 20,
                    pass_fds=self.inherits,
                )
            else:
                self._process = await self._forks.start(
                    arguments, out.fileno(), self.module, self.before, self.inherits
                )
        self._reading = asyncio.get_running_loop().create_task(self._read_stderr(), name="stderr of relay")

    @property
    def pid(self) -> int:
        """Return the process id of the daemon that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.stderr.append(line.decode().rstrip())
            if line.startswith(b"{"):
                self.logs.append(json.loads(line))

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.logs if line["message"] == event]

    def list_complaints(self) -> list[str]:
        """Return the log messages above info, but those on the configuration, and on a plugin that a busy machine has
        kept waiting."""
        logged = [line["message"] for line in self.logs if line["level"] != "info"]
        return [one for one in logged if not one.startswith("configuration: ") and one != "a plugin held up relay"]

    async def ended(self) -> int:
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(60):
            code = await self._process.wait()
            await self._reading
        return code

    async def run(self, *arguments: str) -> CompletedProcess[bytes]:
        """Run a command on the state folder of this daemon, in a process of its own, to its end."""
        return await asyncio.to_thread(self._forks.run, *arguments, "--state", str(self.state))

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()

    def signal(self, number: int) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def metrics(self) -> dict[str, float]:
        """What Prometheus gets at the first of `metrics.listen`."""
        address = self.logged("relay runs")[-1]["metrics"][0]
        async with aiohttp.request("GET", f"{address}/metrics") as answer:
            lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    async def post(self, body: Any, path: str = "/currents", **headers: str) -> tuple[int, dict[str, Any]]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            body = io.BytesIO(body)  # aiohttp warns of large bytes
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, data=body, headers=given) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    def ledger(self) -> dict[str, Ledger]:
        return read_ledger(self.state)

    def parked(self) -> list[Parked]:
        return list_parked(self.state)

    async def settled(self, connector: str, accepted: int, *, within: float = 60) -> Ledger:
        """Wait until the lane has an outcome for so many accepted events."""
        return await self.until(
            lambda: self.ledger()[connector], lambda books: books.accepted >= accepted and not books.pending, within
        )

    async def until(self, look: Callable[[], T], good: Callable[[T], bool], within: float = 60) -> T:
        """Look again until it is good, ever less often: each look costs CPU that relay needs."""
        began = time.monotonic()
        while not good(seen := look()):
            passed = time.monotonic() - began
            assert passed < within, f"last seen: {seen}\n" + "\n".join(self.stderr[-20:])
            await asyncio.sleep(min(max(passed / 10, 0.02), 0.25))
        return seen

    def memory_kib(self, what: str = "VmRSS") -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split(f"{what}:")[1].split()[0])

    def peak_kib(self) -> int:
        return self.memory_kib("VmHWM")
