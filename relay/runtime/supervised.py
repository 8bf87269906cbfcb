"""One worker's process: started, heard, and started again when it dies."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from contextlib import suppress
from typing import Final

import structlog

from relay.runtime.process import StartError
from relay.runtime.worker import Worker

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 30.0
GOOD_RUN_S: Final = 60.0
"""A worker that has run for so long is started again at once."""
log = structlog.stdlib.get_logger()


class Supervised:
    """A worker's process, over all its starts."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.ready = asyncio.Event()
        self.over = False
        """It has ended and is not started again: all it had is delivered."""
        self._heard = 0.0
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep it running until `stop` or, if it only drains, until it is through. Raises StartError."""
        wait = FIRST_WAIT_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._once()
            self.over = self.worker.only_drains and code == 0
            if self._stopping.is_set() or self.over:
                return
            if not self.ready.is_set():
                raise StartError(f"worker {self.worker.number} ended with exit code {code}, see above")
            wait = FIRST_WAIT_S if time.monotonic() - began > GOOD_RUN_S else min(2 * wait, LONGEST_WAIT_S)
            log.error("worker died, starts again", worker=self.worker.number, exit_code=code, in_s=round(wait, 1))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _once(self) -> int:
        """Run the process to its end."""
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.worker.notify.unlink(missing_ok=True)
        notify.bind(str(self.worker.notify))
        notify.setblocking(False)
        environ = os.environ | {"NOTIFY_SOCKET": str(self.worker.notify)}
        environ.pop("WATCHDOG_PID", None)
        command = [sys.executable, "-m", "relay", *sys.argv[1:], "--worker", str(self.worker)]
        self._heard = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(*command, env=environ, pass_fds=self.worker.fds)
        try:
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(self._hear(notify), name=f"worker {self.worker.number}: hear")
                code = await self._process.wait()
                hearing.cancel()
            return code
        finally:
            notify.close()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _hear(self, notify: socket.socket) -> None:
        """Hear how it is; kill it if that takes too long, once it is ready: a start may take its time each time."""
        patience, is_ready = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6, False
        while True:
            try:
                async with asyncio.timeout(patience if patience and is_ready else None):
                    message = await asyncio.get_running_loop().sock_recv(notify, 4096)
            except TimeoutError:
                log.error("worker gives no sign of life, is killed", worker=self.worker.number, after_s=patience)
                self.signal(signal.SIGKILL)
                return
            self._heard = time.monotonic()
            if b"READY=1" in message.splitlines():
                is_ready = True
                self.ready.set()

    def is_silent(self, seconds: float) -> bool:
        """Whether the process runs, but has given no sign of life for so long."""
        runs = self._process is not None and self._process.returncode is None
        return runs and time.monotonic() - self._heard > seconds

    def signal(self, number: int) -> None:
        """Send the process a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Have it stop, and not start again."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
