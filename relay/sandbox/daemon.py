"""The relay of the sandbox, a process with the shipped conf.d and local addresses; and its console, another process."""

import asyncio
import json
import shutil
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import aiohttp

from relay.config import find_shipped
from relay.sandbox.server import DOORS

READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 20.0
LOG_LINES: Final = 20
"""Lines of the log that an error shows."""
USER: Final = "demo"
"""The user of the console."""


class SandboxError(Exception):
    """A demo or a scenario did not get to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder of a demo, and the port on which its relay listens."""

    folder: Path
    port: int

    @property
    def conf(self) -> Path:
        """Return the configuration folder."""
        return self.folder / "conf.d"

    @property
    def state(self) -> Path:
        """Return the state folder."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """Return the file with the standard output and error of relay."""
        return self.folder / "relay.log"

    @property
    def console_log(self) -> Path:
        """Return the same file of the console."""
        return self.folder / "console.log"

    @property
    def options(self) -> Sequence[str | Path]:
        """Return the options of every command that is about this relay."""
        return ("--conf", self.conf, "--state", self.state)

    @property
    def token(self) -> Path:
        """Return the file with the token of Braze for relay, of relay for Heap, and of the console's user."""
        return self.folder / "token"

    def make_url(self, path: str) -> str:
        """Make a URL of relay."""
        return f"http://127.0.0.1:{self.port}{path}"


@dataclass(frozen=True, slots=True)
class DemoConsole:
    """The console of a demo: its address, and who can sign in."""

    url: str
    secret: str
    """It is also the token that the stand-in of Heap takes."""
    heap_url: str
    """An endpoint for connectors that somebody launches there."""
    user: str = USER

    @property
    def books_url(self) -> str:
        """Return where the stand-in of Heap counts what has arrived."""
        return urljoin(self.heap_url, f"{DOORS}books")


def prepare(folder: Path, token: str, heap_url: str) -> DemoFolder:
    """Copy the shipped conf.d to a folder, and add local addresses and tokens as drop-ins.

    `token`: the token of Braze for relay, and of relay for Heap. Raises SandboxError, OSError.
    """
    place = DemoFolder(folder, find_free_port())
    try:
        shipped_conf = find_shipped("conf.d")
    except FileNotFoundError as error:
        raise SandboxError(str(error)) from None
    shutil.copytree(shipped_conf, place.conf)
    place.state.mkdir(mode=0o700)
    place.token.touch(mode=0o600)
    place.token.write_text(token)
    _write_drop_in(place, "00-relay.toml", "ingest", f'listen = "127.0.0.1:{place.port}"')
    _write_drop_in(place, "20-braze.toml", "source.braze", f"tokens = [{{ file = {_quote_toml(place.token)} }}]")
    heap = f"enabled = true\nendpoint = {_quote_toml(heap_url)}\ntoken = {{ file = {_quote_toml(place.token)} }}"
    _write_drop_in(place, "60-heap.toml", "connector.heap", heap)
    return place


def add_console(place: DemoFolder, heap_url: str) -> DemoConsole:
    """Add a console and its user to the configuration of a demo. Raises OSError."""
    address = f"127.0.0.1:{find_free_port()}"
    user = f'[console.user.{USER}]\nmay = "configure"\nsecret = {{ file = {_quote_toml(place.token)} }}\n'
    (place.conf / "90-console.toml").write_text(f'[console]\nlisten = "{address}"\nlaunch = true\n\n{user}')
    return DemoConsole(f"http://{address}", place.token.read_text(), heap_url)


def run_relay(place: DemoFolder, command: Sequence[str]) -> AbstractAsyncContextManager[Process]:
    """Run relay and wait until it is ready. Stop it with SIGTERM at the end. Raises SandboxError."""
    return _run("relay", (*command, "run", *place.options), place.log, place.make_url("/readyz"))


def run_console(
    place: DemoFolder, console: DemoConsole, command: Sequence[str]
) -> AbstractAsyncContextManager[Process]:
    """Run the console and wait until it answers. Stop it with SIGTERM at the end. Raises SandboxError."""
    return _run("the console", (*command, "console", *place.options), place.console_log, f"{console.url}/sign-in")


@asynccontextmanager
async def _run(name: str, command: Sequence[str | Path], path: Path, url: str) -> AsyncIterator[Process]:
    """Run a process until this URL of it answers, and on. `path`: its log. Raises SandboxError."""
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, process_group=0)  # no Ctrl-C
    try:
        await _wait_until_ready(name, process, path, url)
        yield process
        if process.returncode is None:
            process.terminate()
        try:
            code = await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            late = f"{name} did not stop within {STOP_SECONDS:g} s of SIGTERM"
            raise SandboxError(f"{late}{_describe_log_end(path)}") from None
        if code != 0:
            raise SandboxError(f"{name} stopped with exit code {code}{_describe_log_end(path)}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def watch(place: DemoFolder, process: Process) -> None:
    """Raise SandboxError as soon as relay ends."""
    code = await process.wait()
    raise SandboxError(f"relay went away with exit code {code}{_describe_log_end(place.log)}")


async def _wait_until_ready(name: str, process: Process, log: Path, url: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError):
                    async with http.get(url) as answer:
                        if answer.status == 200:
                            return
                if process.returncode is not None:
                    raise SandboxError(f"{name} did not start: exit code {process.returncode}{_describe_log_end(log)}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SandboxError(f"{name} was not ready within {READY_SECONDS:g} s{_describe_log_end(log)}") from None


def _describe_log_end(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
    return "; the end of its log:\n" + "\n".join(f"  {line}" for line in lines) if lines else " and wrote no log"


def _write_drop_in(place: DemoFolder, name: str, table: str, settings: str) -> None:
    folder = place.conf / f"{name}.d"
    folder.mkdir(exist_ok=True)
    (folder / "sandbox.toml").write_text(f"[{table}]\n{settings}\n")


def _quote_toml(value: str | Path) -> str:
    """Quote a text as TOML. The form of JSON is valid TOML."""
    return json.dumps(str(value))


def find_free_port() -> int:
    """Return a local port on which nothing listens at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
