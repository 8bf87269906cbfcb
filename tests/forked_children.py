"""Lets a forked relay fork the processes that it would start: its workers, and the process that reads the journal.

A process that was forked before relay began, without its threads and its event loop, forks each of them. They are
children of relay: relay is the subreaper, so a process whose parent has ended becomes the child of relay.
"""

import asyncio
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO, Any

import relay.admin.question_process as reading

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)"""
ARG_START = 45
"""The place of `arg_start` behind the name of the process in /proc/PID/stat; `arg_end` follows."""
CHILD_OPTIONS = {"env", "pass_fds", "stdout", "stderr"}
"""Options of `asyncio.create_subprocess_exec` that a forked child can have, with files as its streams."""
OWN_FDS = 100
"""Descriptors from here on hold what was received until each has its number. A test allows 128 descriptors."""


class ForkedChild:
    """A child of this process, with as much of `subprocess.Popen` as relay needs."""

    def __init__(self, pid: int, stderr: IO[bytes] | None = None) -> None:
        self.pid, self.stderr = pid, stderr
        self.returncode: int | None = None
        self.end = os.pidfd_open(pid)
        """It can be read once the child has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, minus the number of the signal that ended the child. Raises TimeoutExpired."""
        if self.returncode is not None:
            return self.returncode
        waiting = select.poll()
        waiting.register(self.end, select.POLLIN)
        if not waiting.poll(None if timeout is None else 1000 * timeout):
            raise TimeoutExpired("relay", timeout or 0)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.end)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkedWorker:
    """A child of this process, with as much of `asyncio.subprocess.Process` as relay needs."""

    def __init__(self, child: ForkedChild) -> None:
        self.pid, self._child = child.pid, child
        self.send_signal, self.terminate, self.kill = child.send_signal, child.terminate, child.kill

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    async def wait(self) -> int:
        if self._child.returncode is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._child.end, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._child.end)
        return self._child.wait()


class ForkChildren:
    """The process that forks children, from the side of relay."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders

    def start(self, module: str, arguments: Sequence[str], environ: Mapping[str, str], fds: Mapping[int, int]) -> int:
        """Fork what is `python -m MODULE` before it begins, and return its pid. `fds`: ours by their numbers there."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {"module": module, "arguments": arguments, "environ": dict(environ), "numbers": [*fds]}
        with ours:
            with theirs:
                socket.send_fds(self._orders, [json.dumps(order).encode()], [theirs.fileno(), *fds.values()])
            return int(ours.recv(32))

    def stand_in(self) -> None:
        """Have relay start its processes here."""
        start_process = asyncio.create_subprocess_exec

        async def create_subprocess_exec(*command: object, **more: Any) -> Process | ForkedWorker:
            if command[:3] != (sys.executable, "-m", "relay") or not more.keys() <= CHILD_OPTIONS:
                return await start_process(*command, **more)  # type: ignore[arg-type]
            streams = {1: more.get("stdout", sys.__stdout__), 2: more.get("stderr", sys.__stderr__)}
            fds = {fd: fd for fd in (0, *more.get("pass_fds", ()))} | {fd: one.fileno() for fd, one in streams.items()}
            pid = self.start("relay", [*map(str, command[3:])], more.get("env", os.environ), fds)
            return ForkedWorker(ForkedChild(pid))

        def popen(command: Sequence[str], *, stdin: int, stdout: int, stderr: int) -> Popen[bytes] | ForkedChild:
            *before, module = command
            assert before == [sys.executable, "-m"]
            assert stderr == PIPE
            reader, writer = os.pipe()
            try:
                pid = self.start(module, [], os.environ, {0: stdin, 1: stdout, 2: writer})
            finally:
                os.close(writer)
            return ForkedChild(pid, os.fdopen(reader, "rb"))

        asyncio.create_subprocess_exec = create_subprocess_exec  # type: ignore[assignment]
        reading.Popen = popen  # type: ignore[misc,assignment]


def fork_children() -> tuple[str, list[str], dict[str, str]] | None:
    """Have this process fork its children from here on. Returns what they are in those: module, arguments, environ."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    if os.fork():
        theirs.close()
        ForkChildren(ours).stand_in()
        return None
    ours.close()
    return _next_child(theirs, parent)


def _next_child(orders: socket.socket, parent: int) -> tuple[str, list[str], dict[str, str]]:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # whoever reads what relay writes need not wait for this process
        os.dup2(nothing, number)
    os.close(nothing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        message, (answer, *fds) = _received(orders)
        if not (between := os.fork()):
            break
        for fd in (answer, *fds):
            os.close(fd)
        os.waitpid(between, 0)
    orders.close()
    if pid := os.fork():
        os.write(answer, b"%d" % pid)
        os._exit(0)
    os.close(answer)
    while os.getppid() != parent:
        time.sleep(0.001)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    order = json.loads(message)
    renumber(dict(zip(order["numbers"], fds, strict=True)))
    return order["module"], order["arguments"], order["environ"]


def _received(orders: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next order. End this process with the last who could give an order."""
    message, fds, _, _ = socket.recv_fds(orders, 1 << 20, 200)
    if not message:
        os._exit(0)
    return message, fds


def renumber(fds: Mapping[int, int]) -> None:
    """Give each descriptor its number."""
    kept = {number: os.dup2(fd, OWN_FDS + place) for place, (number, fd) in enumerate(fds.items())}
    for fd in fds.values():
        os.close(fd)
    for number, fd in kept.items():
        os.dup2(fd, number)
        os.close(fd)


def name_process(*words: str) -> None:
    """Have /proc/PID/cmdline show these words, as far as there is room in the command line of the first interpreter."""
    about = Path("/proc/self/stat").read_text()
    start, end = map(int, about.rpartition(")")[2].split()[ARG_START : ARG_START + 2])
    text = "\0".join(words).encode()[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
