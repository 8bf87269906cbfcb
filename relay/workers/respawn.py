"""One worker's process: started, heard, and started again when it dies."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from relay.config import Config
from relay.runtime import FAILURE, StartError, Worker, handed
from relay.socket_path import address_of
from relay.threads import ADMIN

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 30.0
GOOD_RUN_S: Final = 60.0
"""A worker that has run for so long is started again at once."""
LOOK_S: Final = 0.5
HANG_S: Final = 30.0
"""A process whose event loop has not turned for so long is killed, unless a service manager says how long it may."""
REMOVED_ADVICE: Final = "find out who removes files there: relay and its workers need that folder while they run"
CODE_ADVICE: Final = "restart relay, so that all workers run it; if it is broken, mend it or put the old file back"
LIFE: Final = frozenset({b"READY=1", b"WATCHDOG=1", b"RELOADING=1", b"STOPPING=1"})
"""What is a sign of life of all that does the work; what else is said only shows that the event loop turns."""
log = structlog.stdlib.get_logger()


class Supervised:
    """A worker's process, over all its starts.

    How it fails and recovers: whatever ends the process, or keeps it from being started, is told, and it is started
    again, at once and then ever later. Only before a worker was ready for the first time its word that it cannot start
    (an exit code, no signal) ends the start of all; that of one which only drains does not."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.ready = asyncio.Event()
        """It was ready once."""
        self.over = False
        """It has ended and is not started again: all it had is delivered."""
        self.newer: Sequence[str] = ()
        """The plugins whose files were others when its process began than when relay did."""
        self._failure = ""
        """Why its process could not start, in its own words."""
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._heard = self._lived = 0.0
        """When its process said anything last, and when it was a sign of life: not that it is stuck."""
        self._attended = time.monotonic()
        """When it was ready and said anything last, whichever process it was."""

    @property
    def silence(self) -> float:
        """Seconds since it was heard last while it was ready: since its process has died, or its event loop hangs."""
        return time.monotonic() - self._attended

    async def run(self, in_force: Callable[[], Config], new_code: Callable[[], Sequence[str]]) -> None:
        """Keep it running until `stop` or, if it only drains, until it is through. Each of its processes begins with
        the configuration that is `in_force` then: what lies on disk may be wrong, or not meant yet. Plugins are loaded
        from disk: of which there is `new_code` is told. Raises StartError."""
        wait = FIRST_WAIT_S
        while not self._stopping.is_set():
            began = time.monotonic()
            self._tell_newer(await ADMIN.run(new_code))
            code, why = await self._tried(in_force())
            self.over = self.worker.only_drains and code == 0
            if self._stopping.is_set() or self.over:
                return
            if not (self.ready.is_set() or self.worker.only_drains) and (code is None or code >= 0):
                raise StartError(self._failure or f"worker {self.worker.number} {why}")
            wait = FIRST_WAIT_S if time.monotonic() - began > GOOD_RUN_S else min(2 * wait, LONGEST_WAIT_S)
            log.error(
                "worker died, starts again", worker=self.worker.number, exit_code=code, reason=why, in_s=round(wait, 1)
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    def _tell_newer(self, plugins: Sequence[str]) -> None:
        """Tell of which plugins the next process runs newer code, unless that is known already."""
        if plugins and plugins != self.newer:
            told = {"worker": self.worker.number, "plugins": plugins, "advice": CODE_ADVICE}
            log.warning("worker begins with newer code of plugins than relay did", **told)
        self.newer = plugins

    async def _tried(self, config: Config) -> tuple[int | None, str]:
        """Run the process to its end; return its exit code, None if it could not be started, and that in words."""
        self._failure = ""
        try:
            code = await self._once(config)
        except OSError as error:
            return None, f"cannot be started: {error}"
        if self._failure:
            return code, f"cannot start: {self._failure}"
        newer = f"; it ran new code of plugin {', '.join(self.newer)}" if self.newer else ""
        return code, f"ended with exit code {code}, see above{newer}"

    async def _once(self, config: Config) -> int:
        """Run the process to its end. Raises OSError if it cannot be started."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            self._listen(notify)
            environ = os.environ | {"NOTIFY_SOCKET": str(self.worker.notify)}
            environ.pop("WATCHDOG_PID", None)
            self._heard = self._lived = time.monotonic()
            with handed(config.texts) as conf:
                told = str(replace(self.worker, conf=conf))
                command = [sys.executable, "-m", "relay", *sys.argv[1:], "--worker", told]
                process = await asyncio.create_subprocess_exec(*command, env=environ, pass_fds=[*self.worker.fds, conf])
            self._process = process
            try:
                async with asyncio.TaskGroup() as group:
                    hearing = group.create_task(self._hear(notify), name=f"worker {self.worker.number}: hear")
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

    def _listen(self, notify: socket.socket) -> None:
        """Make the socket at which the process says how it is, and its folder if somebody has removed that."""
        path = self.worker.notify
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)
        with address_of(path) as address:
            notify.bind(address)
        notify.setblocking(False)

    async def _keep_socket(self, notify: socket.socket) -> None:
        """Make the socket anew whenever somebody has removed it: the process would not be heard, and be killed."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            if await ADMIN.run(self.worker.notify.exists):
                continue
            told = {"worker": self.worker.number, "socket": str(self.worker.notify)}
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as fresh:
                    self._listen(fresh)
                    loop.remove_reader(notify)
                    os.dup2(fresh.fileno(), notify.fileno(), inheritable=False)
                    loop.add_reader(notify, self._note_all, notify)
            except OSError as error:
                log.error("the socket of a worker was removed, cannot be made anew", **told, error=str(error))
            else:
                log.warning("the socket of a worker was removed, is made anew", **told, advice=REMOVED_ADVICE)

    async def _hear(self, notify: socket.socket) -> None:
        """Hear how it is; kill it if that takes too long, once it is ready: a start may take its time each time."""
        loop, patience = asyncio.get_running_loop(), int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
        loop.add_reader(notify, self._note_all, notify)
        try:
            while not self._hangs(patience):
                await asyncio.sleep(LOOK_S)
                self._note_all(notify)  # before it is judged: this process may have slept
        finally:
            loop.remove_reader(notify)
        self.signal(signal.SIGKILL)

    def _hangs(self, patience: float) -> bool:
        """Whether it has been silent for too long; `patience`: seconds that a service manager has, 0: there is none."""
        now = time.monotonic()
        silent, most = (now - self._lived, patience) if patience else (now - self._heard, HANG_S)
        if not self._is_ready or silent <= most:
            return False
        log.error("worker gives no sign of life, is killed", worker=self.worker.number, after_s=round(most, 1))
        return True

    def _note_all(self, notify: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                self._note(notify.recv(4096))

    def _note(self, message: bytes) -> None:
        if message.startswith(FAILURE):
            self._failure = message.removeprefix(FAILURE).decode(errors="replace")
            return
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
        """Whether the process runs, but has given no sign of life for so long."""
        runs = self._process is not None and self._process.returncode is None
        return runs and time.monotonic() - self._lived > seconds

    def signal(self, number: int) -> None:
        """Send the process a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def begin_anew(self) -> None:
        """End the process, if it runs, so that the next one begins with what is in force now."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """Have it stop, and not start again."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
