"""Writes the log to standard error in a thread, so that a stalled reader does not stall relay.

Failure and recovery: lines wait in a queue of QUEUE_BYTES. While the queue is full, lines are dropped and counted. A
later line says how many were dropped.
"""

import logging
import os
import select
import threading
from collections import deque
from typing import Final

import structlog

from relay.stop import STOP, count_seconds_left

QUEUE_BYTES: Final = 1 << 20
AGAIN_S: Final = 1.0
"""Seconds between two tries at a non-blocking standard error that does not tell when it has room."""
STOP_S: Final = 1.0
"""Seconds that the last lines have when the process ends."""
LATE_S: Final = 0.05
"""The same after a stop that has taken all its time."""
log = structlog.stdlib.get_logger()


class LogWriter(logging.Handler):
    """Takes lines without blocking, and writes them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """The descriptor to write to."""
        self._lines = deque[bytes]()
        self._size = 0
        self._changed = threading.Condition()
        self._ends = False
        self.dropped = 0
        """Lines dropped since the start."""
        self._told = 0
        """Dropped lines that the log has reported."""
        self._is_torn = False
        """Whether the last written line lacks its end."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        super().__init__()  # last: an exit of the process closes all handlers that are known

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line. Drop it without room."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # whatever the line holds: there is nobody to tell, and whoever logs goes on
            self.dropped += 1
            return
        with self._changed:
            if self._ends or self._size + len(line) > QUEUE_BYTES:
                self.dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until the lines are written, STOP_S at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, _choose_patience())

    def close(self) -> None:
        """Write the queued lines within STOP_S, and end the thread."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._thread.join(_choose_patience())
        super().close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._ends)
                if not self._lines:
                    return
                line = self._lines[0]
            written = self._write(line)
            with self._changed:
                self._lines.popleft()
                self._size -= len(line)
                self.dropped += not written
                self._changed.notify_all()
            if written and self.dropped > self._told and self._size < QUEUE_BYTES // 2:
                lines, self._told = self.dropped - self._told, self.dropped
                log.warning(
                    "log lines were dropped", lines=lines, reason="standard error did not take them", always=True
                )

    def _write(self, line: bytes) -> bool:
        """Write a whole line; return False if standard error does not take it."""
        rest = memoryview(b"\n" + line if self._is_torn else line)
        try:
            while rest:
                try:
                    rest = rest[os.write(self.fd, rest) :]
                except BlockingIOError:
                    select.select((), (self.fd,), (), AGAIN_S)
        except OSError:
            self._is_torn = self._is_torn or 0 < len(rest) < len(line)
            return False
        self._is_torn = False
        return True


def _choose_patience() -> float:
    return max(LATE_S, count_seconds_left(STOP.over, STOP_S))
