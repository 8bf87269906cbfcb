"""Starts a worker's process, listens to it, and starts it again when it dies."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from relay.config import Config
from relay.runtime import FAILURE, StartError, Worker, write_to_memory
from relay.socket_path import address_of
from relay.threads import ADMIN

REMOVED_ADVICE: Final = "find out who removes files there: relay and its workers need that folder while they run"
CODE_ADVICE: Final = "restart relay, so that all workers run it; if it is broken, correct it or put the old file back"
LIFE: Final = frozenset({b"READY=1", b"WATCHDOG=1", b"RELOADING=1", b"STOPPING=1"})
"""The message that everything makes progress. Other messages only show that the event loop turns."""
log = structlog.stdlib.get_logger()


@dataclass(frozen=True)
class RespawnTimes:
    """The times of a supervised worker, in seconds."""

    first_wait: float = 0.2
    """The wait before the first restart. Each further wait is twice as long."""
    longest_wait: float = 30.0
    good_run: float = 60.0
    """A worker that has run for so long is restarted after the first wait."""
    check: float = 0.5
    """The time between two checks of the worker."""
    hang: float = 30.0
    """The silence after which a process is killed, unless a service manager sets a longer time."""


class Supervised:
    """A worker's process over all its starts.

    Failure and recovery: whatever ends the process, or prevents its start, is logged. The process is started again, at
    once and then with growing backoff. Only a failed first start, reported by an exit code, ends the start of all. A
    worker that only drains never does that.
    """

    def __init__(self, worker: Worker, times: RespawnTimes | None = None) -> None:
        self.worker, self._times = worker, times or RespawnTimes()
        self.ready = asyncio.Event()
        """Whether it was ever ready."""
        self.over = False
        """Whether it has ended for good: everything is delivered."""
        self.has_died = False
        """Whether any of its processes has ended."""
        self.newer: Sequence[str] = ()
        """The plugins whose files changed between relay's start and this process's start."""
        self._failure = ""
        """Why its process could not start, in its own words."""
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._heard = self._lived = 0.0
        """Times of its process's last message, and of its last sign of life."""
        self._attended = time.monotonic()
        """Time of the last message of any of its processes that was ready."""

    @property
    def silence(self) -> float:
        """Seconds since the last message of a ready process. It has died, or its event loop hangs."""
        return time.monotonic() - self._attended

    async def run(self, in_force: Callable[[], Config], new_code: Callable[[], Sequence[str]]) -> None:
        """Keep the process running until `stop`, or, if it only drains, until everything is delivered.

        Each process begins with the configuration `in_force`, because the one on disk may be wrong or not meant yet.
        Plugins are loaded from disk, and `new_code` names the changed ones for the log. Raises StartError.
        """
        times = self._times
        wait = times.first_wait
        while not self._stopping.is_set():
            began = time.monotonic()
            # Log the plugins whose newer code the next process runs, once for each set
            plugins = await ADMIN.run(new_code)
            if plugins and plugins != self.newer:
                told = {"worker": self.worker.number, "plugins": plugins, "advice": CODE_ADVICE}
                log.warning("worker begins with newer code of plugins than relay did", **told)
            self.newer = plugins
            code, why = await self._try_once(in_force())
            self.has_died = True
            self.over = self.worker.only_drains and code == 0
            if self._stopping.is_set() or self.over:
                return
            if not (self.ready.is_set() or self.worker.only_drains) and (code is None or code >= 0):
                raise StartError(self._failure or f"worker {self.worker.number} {why}")
            has_run_well = time.monotonic() - began > times.good_run
            wait = times.first_wait if has_run_well else min(2 * wait, times.longest_wait)
            log.error(
                "worker died, starts again", worker=self.worker.number, exit_code=code, reason=why, in_s=round(wait, 1)
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _try_once(self, config: Config) -> tuple[int | None, str]:
        """Run the process to its end; return its exit code, None if it could not start, and a description."""
        self._failure = ""
        try:
            code = await self._run_once(config)
        except OSError as error:
            return None, f"cannot be started: {error}"
        if self._failure:
            return code, f"cannot start: {self._failure}"
        newer = f"; it ran new code of plugin {', '.join(self.newer)}" if self.newer else ""
        return code, f"ended with exit code {code}, see above{newer}"

    async def _run_once(self, config: Config) -> int:
        """Run the process to its end. Raises OSError if it cannot start."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            self._bind(notify)
            environ = os.environ | {"NOTIFY_SOCKET": str(self.worker.notify)}
            environ.pop("WATCHDOG_PID", None)
            self._heard = self._lived = time.monotonic()
            with write_to_memory(config.texts) as conf:
                told = str(replace(self.worker, conf=conf))
                command = [sys.executable, "-m", "relay", *sys.argv[1:], "--worker", told]
                process = await asyncio.create_subprocess_exec(*command, env=environ, pass_fds=[*self.worker.fds, conf])
            self._process = process
            try:
                async with asyncio.TaskGroup() as group:
                    hearing = group.create_task(self._keep_hearing(notify), name=f"worker {self.worker.number}: hear")
                    keeping = group.create_task(
                        self._keep_socket(notify), name=f"worker {self.worker.number}: keep its socket"
                    )
                    code = await process.wait()
                    hearing.cancel()
                    keeping.cancel()
                self._note_all(notify)  # its last words
                return code
            finally:
                self._is_ready = False
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    def _bind(self, notify: socket.socket) -> None:
        """Make the socket for signs of life, and its folder if somebody has removed it."""
        path = self.worker.notify
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)
        with address_of(path) as address:
            notify.bind(address)
        notify.setblocking(False)

    async def _keep_socket(self, notify: socket.socket) -> None:
        """Make the socket again whenever somebody has removed it. Without it the process would be killed."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._times.check)
            if await ADMIN.run(self.worker.notify.exists):
                continue
            told = {"worker": self.worker.number, "socket": str(self.worker.notify)}
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as fresh:
                    self._bind(fresh)
                    loop.remove_reader(notify)
                    os.dup2(fresh.fileno(), notify.fileno(), inheritable=False)
                    loop.add_reader(notify, self._note_all, notify)
            except OSError as error:
                log.error("the socket of a worker was removed, cannot be made anew", **told, error=str(error))
            else:
                log.warning("the socket of a worker was removed, is made anew", **told, advice=REMOVED_ADVICE)

    async def _keep_hearing(self, notify: socket.socket) -> None:
        """Receive messages. Kill a ready process that is silent for too long; a start may take its time."""
        loop, patience = asyncio.get_running_loop(), int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
        loop.add_reader(notify, self._note_all, notify)
        silent, most = 0.0, patience or self._times.hang  # without a service manager there is no patience
        try:
            while not self._is_ready or silent <= most:
                await asyncio.sleep(self._times.check)
                self._note_all(notify)  # before it is judged: this process may have slept
                silent = time.monotonic() - (self._lived if patience else self._heard)
            log.error("worker gives no sign of life, is killed", worker=self.worker.number, after_s=round(most, 1))
        finally:
            loop.remove_reader(notify)
        self.send_signal(signal.SIGKILL)

    def _note_all(self, notify: socket.socket) -> None:
        """Note all messages that have come."""
        with suppress(BlockingIOError):
            while True:
                message = notify.recv(4096)
                if message.startswith(FAILURE):
                    self._failure = message.removeprefix(FAILURE).decode(errors="replace")
                    continue
                said = message.splitlines()
                self._heard = time.monotonic()
                if not LIFE.isdisjoint(said):
                    self._lived = self._heard
                if b"READY=1" in said:
                    self._is_ready = True
                    self.ready.set()
                if self._is_ready:
                    self._attended = self._heard

    def is_silent(self, seconds: float) -> bool:
        """Return whether a running process has given no sign of life for so long."""
        runs = self._process is not None and self._process.returncode is None
        return runs and time.monotonic() - self._lived > seconds

    def send_signal(self, number: int) -> None:
        """Send a signal to a running process."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def restart(self) -> None:
        """End a running process, so that the next one begins with the configuration in force."""
        self.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the process for good."""
        self._stopping.set()
        self.send_signal(signal.SIGTERM)
