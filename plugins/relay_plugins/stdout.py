"""The connector type `stdout`: events as NDJSON on standard output."""

import errno
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import Field

from relay.api import DELIVERED, Batch, Connector, ConnectorSettings, Outcome, Retry

SHARE_OF_TIMEOUT: Final = 0.8
"""Share of `timeout` for writing. Written events must be reported before the delivery counts as failed."""
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
        """Return True: several processes would mix their lines."""
        return True

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Write the batch; return `Retry` for the events that could not be written."""
        return await self.run_blocking(_write, batch, time.monotonic() + SHARE_OF_TIMEOUT * self.settings.timeout)


def _write(batch: Batch, until: float) -> list[Outcome] | None:
    """Write a batch until a time (monotonic seconds); return the outcomes, or None if all events are written."""
    written, problem = (0, CLOSED) if sys.stdout is None else OUTPUT.write(sys.stdout.fileno(), batch, until)
    if not problem:
        return None
    goes_on = bool(written) and problem == STALLED
    said = "standard output is closed" if problem == CLOSED else f"standard output: {problem}"
    retry = Retry(said, after=0 if goes_on else None, hold_lane=not goes_on)
    outcomes: list[Outcome] = [DELIVERED] * written
    return outcomes + [retry] * (len(batch) - written)


class Output:
    """Writes to the standard output of the process. All connectors write by turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        """Device and inode of the file behind standard output."""
        self._rest = b""
        """The part of a torn line that is not written yet."""
        self._torn: int | None = None
        """Offset of the event whose line is torn."""

    def write(self, fd: int, batch: Batch, until: float) -> tuple[int, str]:
        """Write until a time (monotonic seconds); return the number of complete events, and the problem of the other
        events, or "". Blocks."""
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            return 0, STALLED
        try:
            # Another process may have left half a line at the end of the file: end that line first
            found = os.fstat(fd)
            if self._file != (file := (found.st_dev, found.st_ino)):
                self._file, self._rest, self._torn = file, b"", None
                if stat.S_ISREG(found.st_mode) and found.st_size:
                    with suppress(OSError), Path(f"/proc/self/fd/{fd}").open("rb") as begun:  # if relay may read it
                        begun.seek(found.st_size - 1)
                        self._rest = b"" if begun.read(1) in (b"", b"\n") else b"\n"
            return self._write_lines(fd, batch, until)
        finally:
            self._lock.release()

    def _write_lines(self, fd: int, batch: Batch, until: float) -> tuple[int, str]:
        """Write the rest of a torn line, then the lines of a batch. Return the same as `write`."""
        lines, offsets = batch.lines(), batch.offsets()
        before = int(offsets[0] == self._torn)  # the rest of its line comes first anyway
        first = len(self._rest)
        data = self._rest + (lines[lines.index(b"\n") + 1 :] if before else lines)
        written, problem = _write_bytes(fd, data, until)
        if not problem:
            self._rest, self._torn = b"", None
            return len(batch), ""
        if problem == BROKEN:  # the next reader begins with a line of its own
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


def _write_bytes(fd: int, data: bytes, until: float) -> tuple[int, str]:
    """Write until a time (monotonic seconds); return the number of bytes written, and the problem, or ""."""
    view, at = memoryview(data), 0
    is_file, room = stat.S_ISREG(os.fstat(fd).st_mode), select.poll()
    room.register(fd, select.POLLOUT)
    while at < len(view):
        if not is_file and not room.poll(max(0.0, until - time.monotonic()) * 1000):
            return at, STALLED
        try:
            at += os.write(fd, view[at:] if is_file else view[at : at + PIECE])
        except BlockingIOError:  # the pipe had less room than poll() said
            time.sleep(AGAIN_S)
            if time.monotonic() > until:
                return at, STALLED
        except OSError as error:
            return at, os.strerror(error.errno or 0)
    return at, ""
