"""The connector type `stdout`: events as NDJSON on standard output."""

import errno
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from relay.api import DELIVERED, Batch, Connector, ConnectorSettings, Outcome, Retry

SHARE_OF_TIMEOUT: Final = 0.8
"""Of `timeout`; what is written must be reported before the delivery counts as failed."""
PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe takes without blocking, if it takes any; a file takes any number."""
AGAIN_S: Final = 0.01
STALLED: Final = "nobody reads it"
BROKEN: Final = os.strerror(errno.EPIPE)
CLOSED: Final = os.strerror(errno.EBADF)


class Stdout(Connector, type="stdout"):
    """Writes events to standard output, one event per line. The log goes to standard error.

    A line that was written in part, because a disk is full or nobody reads, is finished before the next line.
    """

    class Settings(ConnectorSettings):
        """Nothing to set; one batch at a time keeps the lines whole."""

        concurrency: int = Field(1, ge=1, le=1)
        """Maximum number of batches under way at a time. It is always 1, so that lines stay whole."""

    @property
    def single_worker(self) -> bool:
        """Several processes would mix their lines."""
        return True

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Write the batch; `Retry` for the events that could not be written."""
        return await self.run_blocking(_deliver, batch, time.monotonic() + SHARE_OF_TIMEOUT * self.settings.timeout)


def _deliver(batch: Batch, until: float) -> list[Outcome] | None:
    written, problem = (0, CLOSED) if sys.stdout is None else OUTPUT.write(sys.stdout.fileno(), batch, until)
    if not problem:
        return None
    goes_on = bool(written) and problem == STALLED
    said = "standard output is closed" if problem == CLOSED else f"standard output: {problem}"
    retry = Retry(said, after=0 if goes_on else None, hold_lane=not goes_on)
    outcomes: list[Outcome] = [DELIVERED] * written
    return outcomes + [retry] * (len(batch) - written)


class Output:
    """Standard output: the process has one, so all connectors write to it by turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        """What is written to: device and inode."""
        self._rest = b""
        """What is still to come of a line."""
        self._torn: int | None = None
        """The offset of the event whose line that is."""

    def write(self, fd: int, batch: Batch, until: float) -> tuple[int, str]:
        """Write up to that time (monotonic seconds); return how many events are written whole, and what kept the
        others. Blocking."""
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            return 0, STALLED
        try:
            # Another process may have left half a line at the end of the file: end that line first
            found = os.fstat(fd)
            if self._file != (file := (found.st_dev, found.st_ino)):
                torn = stat.S_ISREG(found.st_mode) and _last_byte(fd) not in (b"", b"\n")
                self._file, self._rest, self._torn = file, b"\n" if torn else b"", None
            return self._write(fd, batch, until)
        finally:
            self._lock.release()

    def _write(self, fd: int, batch: Batch, until: float) -> tuple[int, str]:
        lines, offsets = batch.lines(), batch.offsets()
        before = int(offsets[0] == self._torn)  # whose rest comes first anyway
        first = len(self._rest)
        data = self._rest + (lines[lines.index(b"\n") + 1 :] if before else lines)
        written, problem = _put(fd, data, until)
        if not problem:
            self._rest, self._torn = b"", None
            return len(batch), ""
        if problem == BROKEN:  # whoever reads next begins with a line of its own
            self._rest, self._torn = b"", None
            return 0 if written < first else before + data.count(b"\n", first, written), problem
        if written < first:
            self._rest = self._rest[written:]
            return 0, problem
        whole = before + data.count(b"\n", first, written)
        is_torn = written > max(first, data.rfind(b"\n", 0, written) + 1)
        self._rest = data[written : data.index(b"\n", written) + 1] if is_torn else b""
        self._torn = offsets[whole] if is_torn else None
        return whole, problem


OUTPUT: Final = Output()


def _put(fd: int, data: bytes, until: float) -> tuple[int, str]:
    """Write up to that time; return how many bytes are written, and what kept the others."""
    view, at = memoryview(data), 0
    is_file, room = stat.S_ISREG(os.fstat(fd).st_mode), select.poll()
    room.register(fd, select.POLLOUT)
    while at < len(view):
        if not is_file and not room.poll(max(0.0, until - time.monotonic()) * 1000):
            return at, STALLED
        try:
            at += os.write(fd, view[at:] if is_file else view[at : at + PIECE])
        except BlockingIOError:  # there was less room than it said
            time.sleep(AGAIN_S)
            if time.monotonic() > until:
                return at, STALLED
        except OSError as error:
            return at, os.strerror(error.errno or 0)
    return at, ""


def _last_byte(fd: int) -> bytes:
    """The last byte of a file that is open for writing; empty if there is none, or it cannot be told."""
    try:
        with Path(f"/proc/self/fd/{fd}").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return file.read(1)
    except OSError:
        return b""
