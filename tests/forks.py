"""Starts relays that need not import relay first: a process that has done so forks each of them.

Importing takes most of the CPU of a start, and tests start relay hundreds of times. What is forked is a process of its
own that goes on as `python -m relay` does, from `main` to the end of the interpreter. It forks its own processes too
(`tests.forked_children`). Tests of what the interpreter does start relay in the usual way, with a wrapper
(`Daemon.wrapper`), and that relay starts its processes in the usual way.
"""

import asyncio
import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from runpy import run_module
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).parents[1]
OWN_PLUGINS = "relay_plugins."
COMMAND_LINE = 4096
"""The room for the command line of what is forked."""


class Forked:
    """A relay that was forked, with as much of `asyncio.subprocess.Process` as tests need."""

    def __init__(self, pid: int, stderr: asyncio.StreamReader, news: socket.socket) -> None:
        self.pid, self.stderr = pid, stderr
        self.returncode: int | None = None
        self._ending = asyncio.get_running_loop().create_task(self._end(news), name=f"end of relay {pid}")

    async def _end(self, news: socket.socket) -> int:
        with news:
            self.returncode = await _number(news)
        return self.returncode

    async def wait(self) -> int:
        """Its exit code, minus the number of the signal that ended it."""
        return await asyncio.shield(self._ending)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)


class ForkedReader:
    """A process that reads a journal, with as much of `subprocess.Popen` as relay needs."""

    def __init__(self, news: socket.socket, stderr: IO[bytes]) -> None:
        self.pid, self.stderr = int(news.recv(32)), stderr
        self.returncode: int | None = None
        self._news = news

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, minus the number of the signal that ended the process. Raises TimeoutExpired."""
        if self.returncode is None:
            self._news.settimeout(timeout)
            try:
                self.returncode = int(self._news.recv(32))
            except TimeoutError:
                raise subprocess.TimeoutExpired("relay.inspect", timeout or 0) from None
            self._news.close()
        return self.returncode

    def kill(self) -> None:
        """Kill the process, if it runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Forks:
    """The process that forks, from the outside."""

    def __init__(self, orders: socket.socket, door: Path) -> None:
        self._orders = orders
        self.command = (sys.executable, "-SIB", str(Path(__file__).with_name("forked_command.py")), str(door))
        """What stands for `python -m relay` where a test starts a program."""

    async def start(
        self,
        arguments: Sequence[str],
        stdout: int,
        module: str = "relay",
        before: str = "",
        inherits: Sequence[int] = (),
    ) -> Forked:
        """Start a relay with these arguments, and this process's environment and folder.

        `module`: what is relay. `before`: Python that the process runs first. `inherits`: descriptors that it has, too.
        """
        errors, stderr = os.pipe()
        fds = {1: stdout, 2: stderr, **{fd: fd for fd in inherits}}
        news = self._order(module, arguments, fds, Path.cwd(), before)
        news.setblocking(False)
        os.close(stderr)
        return Forked(await _number(news), await _reader_of(errors), news)

    def order(
        self, arguments: Sequence[str], stdout: int, stderr: int, folder: Path, before: str = ""
    ) -> socket.socket:
        """Start a relay with these arguments; return the socket that gets its pid, and its exit code at the end."""
        return self._order("relay", arguments, {1: stdout, 2: stderr}, folder, before)

    def read_journal(self, command: Sequence[str], *, stdin: int, stdout: int, stderr: int) -> "ForkedReader":
        """Start the process that reads a journal. Do what `Popen` does for the API of a relay in this process."""
        *before, module = command
        assert before == [sys.executable, "-m"]
        assert stderr == subprocess.PIPE
        reader, writer = os.pipe()
        news = self._order(module, [], {0: stdin, 1: stdout, 2: writer}, Path.cwd())
        os.close(writer)
        return ForkedReader(news, os.fdopen(reader, "rb"))

    def _order(
        self, module: str, arguments: Sequence[str], fds: Mapping[int, int], folder: Path, before: str = ""
    ) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {"module": module, "arguments": arguments, "environ": dict(os.environ), "folder": str(folder)}
        message = json.dumps({**order, "before": before, "numbers": [*fds]}).encode()
        with theirs:
            socket.send_fds(self._orders, [message], [theirs.fileno(), *fds.values()])
        return ours

    def run(
        self, *arguments: str, stdout: int | None = None, folder: Path | None = None, before: str = ""
    ) -> CompletedProcess[bytes]:
        """Run a command of relay to its end, as `subprocess.run` does, and return what it wrote and its exit code.

        `before`: Python that the process runs first.
        """
        with TemporaryFile() as out, TemporaryFile() as err:
            given = out.fileno() if stdout is None else stdout
            with self.order(arguments, given, err.fileno(), folder or Path.cwd(), before) as news:
                code = exit_code(news)
            out.seek(0)
            err.seek(0)
            return CompletedProcess(arguments, code, out.read(), err.read())


def exit_code(news: socket.socket) -> int:
    """Wait for the end of an ordered relay. Raises TimeoutError after a minute, and kills that relay."""
    news.settimeout(60)
    pid = int(news.recv(32))
    try:
        return int(news.recv(32))
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        raise


async def _number(news: socket.socket) -> int:
    return int(await asyncio.get_running_loop().sock_recv(news, 32))


async def _reader_of(pipe: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 20)
    connected = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: connected, os.fdopen(pipe, "rb"))
    return reader


@contextmanager
def forks() -> Iterator[Forks]:
    """Run the process that forks; it ends with the last who could give it an order."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, TemporaryDirectory() as folder:
        path = Path(folder) / "door"
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.bind(str(path))
            fds = [theirs.fileno(), door.fileno()]
            command = [sys.executable, __file__, *map(str, fds), " " * COMMAND_LINE]
            process = subprocess.Popen(command, pass_fds=fds)
        yield Forks(ours, path)
    process.wait()


class Running:
    """The relays that were forked and run: their pidfds, pids, and the files that get their exit codes."""

    def __init__(self) -> None:
        self.poll = select.poll()
        self._by_end: dict[int, tuple[int, int]] = {}
        self._by_answer: dict[int, int] = {}

    def add(self, pid: int, answer: int) -> None:
        """Tell the pid of a relay that runs now."""
        end = os.pidfd_open(pid)
        self._by_end[end], self._by_answer[answer] = (pid, answer), pid
        self.poll.register(end, select.POLLIN)
        self.poll.register(answer, select.POLLIN)
        with suppress(BrokenPipeError):
            os.write(answer, b"%d" % pid)

    def attend(self, ready: int) -> None:
        """Tell the exit code of a relay that has ended. Kill a relay as soon as nobody waits for its exit code."""
        if ready in self._by_answer:
            self.poll.unregister(ready)
            os.kill(self._by_answer[ready], signal.SIGKILL)
        elif ready in self._by_end:
            pid, answer = self._by_end.pop(ready)
            del self._by_answer[answer]
            self.poll.unregister(ready)
            with suppress(KeyError):  # it was killed
                self.poll.unregister(answer)
            with suppress(BrokenPipeError):
                os.write(answer, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os.close(ready)
            os.close(answer)

    def close(self) -> None:
        """Close all files, in a process that was forked."""
        for fd in (*self._by_end, *self._by_answer):
            os.close(fd)

    def kill(self) -> None:
        """Kill all relays: nobody is left who could wait for them."""
        for pid in self._by_answer.values():
            os.kill(pid, signal.SIGKILL)


def next_relay(orders: socket.socket, door: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each order, until `orders` is closed. Returns in the processes that are to be relay: the order, and the
    files that relay gets."""
    running = Running()
    places = {place.fileno(): place for place in (orders, door)}
    for fd in places:
        running.poll.register(fd, select.POLLIN)
    while True:
        for ready, _ in running.poll.poll():
            if ready not in places:
                running.attend(ready)
                continue
            message, fds, _, _ = socket.recv_fds(places[ready], 1 << 20, 8)
            if not message:
                running.kill()
                sys.exit()
            answer, *streams = fds
            if not (pid := os.fork()):
                running.close()
                orders.close()
                door.close()
                os.close(answer)
                return json.loads(message), streams
            for fd in streams:
                os.close(fd)
            running.add(pid, answer)


def remember_plugins() -> None:
    """Read what is installed, and relay's own plugins, once per process instead of once per command."""
    from relay.config.plugins import discovery, registry

    find_installed, check_class, read_stamp = discovery.find_installed, registry.check_class, registry.read_stamp
    list_things = registry._list_things
    installed = cache(lambda path: [*find_installed()])
    discovery.find_installed = lambda: iter(installed((*sys.path,)))
    registry.check_class = cache(check_class)
    read_own = cache(read_stamp)  # no test changes a file of the tree
    registry.read_stamp = lambda path: (read_own if path.is_relative_to(ROOT) else read_stamp)(path)
    list_own = cache(lambda module: [*list_things(module)])
    registry._list_things = lambda one: list_own(one) if one.__name__.startswith(OWN_PLUGINS) else list_things(one)


def be(module: str, arguments: Sequence[str], environ: dict[str, str]) -> None:
    """Be what `python -m MODULE` is before it begins."""
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["relay", *arguments]
    name_process(sys.executable, "-m", module, *arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end(code: object) -> None:
    """Do what the interpreter does at its end, but take nothing apart: that copies most of the memory which the
    processes share, and takes more CPU than most commands."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    is_written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # as the interpreter
            is_written = False
    number = 0 if code is None else code if isinstance(code, int) else 1
    os._exit(number & 0xFF if is_written or number else 120)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    from relay.cli.main import main
    from relay.inspect.subprocess import main as read_journal
    from tests.forked_children import fork_children, name_process, renumber
    from tests.warm_relay import warm_up

    remember_plugins()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the tests ends them one after the other
    with socket.socket(fileno=int(sys.argv[1])) as orders, socket.socket(fileno=int(sys.argv[2])) as door:
        warm_up(Path(door.getsockname()).parent)
        gc.freeze()
        order, given = next_relay(orders, door)
    renumber(dict(zip(order["numbers"], given, strict=True)))
    os.chdir(order["folder"])
    sys.path[0] = order["folder"]
    module = order["module"]
    be(module, order["arguments"], order["environ"])
    exec(order.get("before", ""))
    if order["arguments"][:1] in (["run"], ["sandbox"], ["console"]) and (child := fork_children()):
        module = child[0]
        be(*child)
    try:
        if module == "relay.inspect":
            sys.exit(read_journal())
        main() if module == "relay" else run_module(module, run_name="__main__")
    except SystemExit as ended:
        end(ended.code)
