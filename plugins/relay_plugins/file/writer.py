"""Files that are only ever appended to: whole writes or none, on disk when they return, a bounded number open.

Several connectors may name the same file; `relay check` warns of that. They write to the file by turns, so that no
connector cuts or sets aside what another connector has just written.
"""

import errno
import json
import os
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from weakref import WeakValueDictionary

OPEN_FILES: Final = 128
"""Files kept open; there are fewer Currents event types than that."""
CHUNK_BYTES: Final = 64 << 10
NOT_REGULAR: Final = "is no regular file"


class Turns:
    """Lets the connectors of this process write to a file by turns, and counts how often each file is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks = WeakValueDictionary[Path, threading.Lock]()
        self._open = Counter[tuple[int, int]]()

    def find_lock(self, path: Path) -> threading.Lock:
        """Return the lock to hold while the file at this path is opened, written or set aside."""
        with self._lock:
            return self._locks.setdefault(path, threading.Lock())

    def count_open(self, fd: int, change: Literal[1, -1]) -> None:
        """Count a file as open once more (1) or once less (-1). Raises OSError."""
        found = os.fstat(fd)
        with self._lock:
            self._open[found.st_dev, found.st_ino] += change
            self._open += Counter()  # drops closed files, whose count is 0

    def is_open(self, path: Path) -> bool:
        """Return whether the file at this path is open. Raises OSError."""
        found = path.stat()
        return (found.st_dev, found.st_ino) in self._open


TURNS: Final = Turns()


class Files:
    """Appends to files and keeps some of them open. An append is on disk when it returns, and leaves nothing behind
    when it fails."""

    def __init__(
        self,
        *,
        max_size: int,
        max_age: float,
        ending: str,
        closed: "ClosedFiles | None",
        warn: Callable[[str, Path], None],
    ) -> None:
        """`closed`: sizes of compressed files; None for plain lines."""
        self._max_size = max_size
        self._max_age = max_age
        self._ending = ending
        self._closed = closed
        self._warn = warn
        self.opened_total = 0
        """Number of times that a file was opened."""
        self._open: OrderedDict[Path, OpenFile] = OrderedDict()
        self._lock = threading.Lock()  # a cancelled delivery's thread goes on

    def append(self, path: Path, data: Iterable[bytes | bytearray], size: int) -> None:
        """Append whole lines, or a whole compressed member, of `size` bytes to a file. Begin a new file if this file
        would exceed a limit. Raises OSError."""
        with self._lock, TURNS.find_lock(path):
            file = self._open_file(path)
            held, age = file.size(), time.monotonic() - file.since
            if held and (0 < self._max_size < held + size or 0 < self._max_age <= age):
                self._close(path)
                self._set_aside(path)
                file = self._open_file(path)
            try:
                file.append(data)
            except OSError:
                self._close(path)
                raise

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for path in list(self._open):
                self._close(path)
            if self._closed is not None:
                self._closed.save()

    def is_open(self, path: Path) -> bool:
        """Return whether the file at this path is open, here or in another connector."""
        try:
            return TURNS.is_open(path)
        except OSError:  # it does not exist any more
            return False

    def _open_file(self, path: Path) -> "OpenFile":
        """Return the open file at this path; open it first if needed. Raises OSError."""
        file = self._open.get(path)
        if file is not None and not file.is_still_at(path):
            self._close(path)
            file = None
        if file is None:
            file = self._open[path] = self._open_new(path)
        self._open.move_to_end(path)
        if len(self._open) > OPEN_FILES:
            self._close(next(iter(self._open)))
        return file

    def _open_new(self, path: Path) -> "OpenFile":
        """Open a file so that it ends with a whole line or member. Raises OSError."""
        make_folder(path.parent)
        check_regular(path)
        self.opened_total += 1
        if self._closed is not None and path.exists() and not TURNS.is_open(path) and not self._closed.take(path):
            self._set_aside(path)
        file = OpenFile(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), time.monotonic())
        try:
            if self._closed is None and file.cut_torn_line():
                self._warn("cut off a line that was not completely written; its event is written again", path)
            sync_folder(path.parent)
        except OSError:
            os.close(file.fd)
            raise
        TURNS.count_open(file.fd, 1)
        return file

    def _set_aside(self, path: Path) -> None:
        """Rename a file by the next number. The highest number is the newest file, even if the first are removed."""
        stem = path.name.removesuffix(self._ending)
        numbered = re.compile(rf"{re.escape(stem)}\.(\d+){re.escape(self._ending)}")
        numbers = [int(found[1]) for one in path.parent.iterdir() if (found := numbered.fullmatch(one.name))]
        path.rename(path.with_name(f"{stem}.{max(numbers, default=0) + 1}{self._ending}"))

    def _close(self, path: Path) -> None:
        file = self._open.pop(path)
        if self._closed is not None and file.is_whole and file.is_still_at(path):
            self._closed.sizes[str(path)] = file.size()
        TURNS.count_open(file.fd, -1)
        os.close(file.fd)


class ClosedFiles:
    """Sizes of compressed files when they were closed. A file of the same size now ends with a whole member.

    Between a stop and a start the sizes are in a file. After a crash that file does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_loaded = False
        self.sizes: dict[str, int] = {}
        """By path, in bytes."""

    def take(self, path: Path) -> bool:
        """Forget the size of a file; return whether relay may append to the file. Raises OSError."""
        if not self._is_loaded:
            self._is_loaded = True
            with suppress(OSError, ValueError):
                saved = json.loads(self._path.read_bytes())
                self._path.unlink()
                self.sizes |= saved if isinstance(saved, dict) else {}
        size = path.stat().st_size
        return size == 0 or self.sizes.pop(str(path), None) == size

    def save(self) -> None:
        """Save the sizes for the next start. If that fails, the next start sets the files aside."""
        if self.sizes:
            with suppress(OSError):
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                self._path.write_text(json.dumps(self.sizes))


@dataclass(slots=True)
class OpenFile:
    """A file to which relay appends."""

    fd: int
    since: float
    """Monotonic time of the opening, in seconds."""
    is_whole: bool = True
    """Whether the file ends with a complete write."""

    def size(self) -> int:
        """Return the bytes in the file. Raises OSError."""
        return os.fstat(self.fd).st_size

    def is_still_at(self, path: Path) -> bool:
        """Return whether the path still leads to this file: logrotate may have moved it. Raises OSError."""
        try:
            return os.path.samestat(os.fstat(self.fd), path.stat())
        except FileNotFoundError:
            return False

    def append(self, data: Iterable[bytes | bytearray]) -> None:
        """Write and sync. Raises OSError; the file then ends where it ended before."""
        good = self.size()
        try:
            for part in data:
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(self.fd, rest) :]
            os.fdatasync(self.fd)
        except OSError:
            self.is_whole = False
            os.ftruncate(self.fd, good)
            self.is_whole = True
            raise

    def cut_torn_line(self) -> int:
        """Truncate the file after its last line break; return how many bytes were cut off. Raises OSError."""
        size = end = self.size()
        while end > 0:
            start = max(0, end - CHUNK_BYTES)
            found = os.pread(self.fd, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            os.ftruncate(self.fd, end)
        return size - end


def check_regular(path: Path) -> None:
    """Raise OSError if the path is no regular file: a pipe or device cannot be truncated and puts nothing on disk."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. All are on disk when this returns. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o750, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
