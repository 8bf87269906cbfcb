"""A relay of the sandbox's own: the shipped conf.d with local addresses, run as a process of its own."""

import asyncio
import json
import shutil
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from relay.config import find_shipped

READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 20.0
LOG_LINES: Final = 20
"""Of relay's log, shown when it did not come up or went away."""


class SandboxError(Exception):
    """The demonstration could not be run to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder of one demonstration, and the port that relay listens on in it."""

    folder: Path
    port: int

    @property
    def conf(self) -> Path:
        """The configuration folder."""
        return self.folder / "conf.d"

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What relay writes to its standard output and error."""
        return self.folder / "relay.log"

    def url(self, path: str) -> str:
        """Where relay listens."""
        return f"http://127.0.0.1:{self.port}{path}"


def prepare(folder: Path, token: str, heap_url: str) -> DemoFolder:
    """Copy the shipped conf.d there and add what must be local, as drop-ins. Raises SandboxError, OSError.

    `token` is what Braze needs towards relay, and relay towards Heap.
    """
    place = DemoFolder(folder, free_port())
    try:
        shipped_conf = find_shipped("conf.d")
    except FileNotFoundError as error:
        raise SandboxError(str(error)) from None
    shutil.copytree(shipped_conf, place.conf)
    place.state.mkdir(mode=0o700)
    file = folder / "token"
    file.touch(mode=0o600)
    file.write_text(token)
    _drop_in(place, "00-relay.toml", "ingest", f'listen = "127.0.0.1:{place.port}"')
    _drop_in(place, "20-braze.toml", "source.braze", f"tokens = [{{ file = {_quoted(file)} }}]")
    heap = f"enabled = true\nendpoint = {_quoted(heap_url)}\ntoken = {{ file = {_quoted(file)} }}"
    _drop_in(place, "60-heap.toml", "connector.heap", heap)
    return place


@asynccontextmanager
async def running(place: DemoFolder, command: Sequence[str]) -> AsyncIterator[Process]:
    """Run relay and wait until it is ready; stop it with SIGTERM at the end. Raises SandboxError."""
    with place.log.open("wb") as log:
        options = ("run", "--conf", place.conf, "--state", place.state)
        process = await asyncio.create_subprocess_exec(*command, *options, stdout=log, stderr=log)
    try:
        await _ready(place, process)
        yield process
        if process.returncode is None:
            process.terminate()
        try:
            code = await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            raise SandboxError(f"relay did not stop within {STOP_SECONDS:g} s of SIGTERM{_tail(place)}") from None
        if code != 0:
            raise SandboxError(f"relay stopped with exit code {code}{_tail(place)}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def watch(place: DemoFolder, process: Process) -> None:
    """Raise SandboxError as soon as relay goes away."""
    code = await process.wait()
    raise SandboxError(f"relay went away with exit code {code}{_tail(place)}")


async def _ready(place: DemoFolder, process: Process) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
            while not await _answers(http, place.url("/readyz")):
                if process.returncode is not None:
                    raise SandboxError(f"relay did not start: exit code {process.returncode}{_tail(place)}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SandboxError(f"relay was not ready within {READY_SECONDS:g} s{_tail(place)}") from None


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def _tail(place: DemoFolder) -> str:
    lines = place.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
    return "; the end of its log:\n" + "\n".join(f"  {line}" for line in lines) if lines else " and wrote no log"


def _drop_in(place: DemoFolder, name: str, table: str, settings: str) -> None:
    folder = place.conf / f"{name}.d"
    folder.mkdir(exist_ok=True)
    (folder / "sandbox.toml").write_text(f"[{table}]\n{settings}\n")


def _quoted(value: str | Path) -> str:
    """A TOML string: for these JSON's form is the same."""
    return json.dumps(str(value))


def free_port() -> int:
    """A port on which nothing listens at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
