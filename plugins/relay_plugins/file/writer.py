"""Files that are only ever appended to: whole writes or none, on disk when they return, a bounded number open.

Several connectors may name one file, which `relay check` warns of. They write to it by turns, so that none cuts what
another has just written, or sets it aside.
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
from typing import Final
from weakref import WeakValueDictionary

OPEN_FILES: Final = 128
"""Files kept open; there are fewer Currents event types than that."""
CHUNK_BYTES: Final = 64 << 10
NOT_REGULAR: Final = "is no regular file"


class Turns:
    """Who in this process writes to which file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks = WeakValueDictionary[Path, threading.Lock]()
        self._open = Counter[tuple[int, int]]()

    def at(self, path: Path) -> threading.Lock:
        """What is held while the file at this path is opened, written or set aside."""
        with self._lock:
            return self._locks.setdefault(path, threading.Lock())

    def opened(self, fd: int, by: int = 1) -> None:
        """A file is open once more, or with -1 once less."""
        found = os.fstat(fd)
        with self._lock:
            self._open[found.st_dev, found.st_ino] += by
            self._open += Counter()  # without those that are closed

    def is_open(self, path: Path) -> bool:
        """Whether the file at this path is open. Raises OSError."""
        found = path.stat()
        return (found.st_dev, found.st_ino) in self._open


TURNS: Final = Turns()


class Files:
    """The files that are open. An append is on disk when it returns, and leaves nothing behind when it fails."""

    def __init__(
        self,
        *,
        max_size: int,
        max_age: float,
        ending: str,
        whole: "ClosedFiles | None",
        warn: Callable[[str, Path], None],
    ) -> None:
        """`whole`: None for plain lines."""
        self._max_size = max_size
        self._max_age = max_age
        self._ending = ending
        self._whole = whole
        self._warn = warn
        self.opened = 0
        """Files that were opened, ever."""
        self._open: OrderedDict[Path, OpenFile] = OrderedDict()
        self._lock = threading.Lock()  # a cancelled delivery's thread goes on

    def append(self, path: Path, data: Iterable[bytes | bytearray], size: int) -> None:
        """Add whole lines, or a whole compressed member, of so many bytes to the file. Raises OSError."""
        with self._lock, TURNS.at(path):
            file = self._at(path)
            if self._is_full(file, size):
                self._close(path)
                self._set_aside(path)
                file = self._at(path)
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
            if self._whole is not None:
                self._whole.save()

    def is_open(self, path: Path) -> bool:
        """Whether the file at this path is open, here or in another connector."""
        try:
            return TURNS.is_open(path)
        except OSError:  # it is gone
            return False

    def _at(self, path: Path) -> "OpenFile":
        file = self._open.get(path)
        if file is not None and not file.is_still_at(path):
            self._close(path)
            file = None
        if file is None:
            file = self._open[path] = self._opened(path)
        self._open.move_to_end(path)
        if len(self._open) > OPEN_FILES:
            self._close(next(iter(self._open)))
        return file

    def _opened(self, path: Path) -> "OpenFile":
        make_folder(path.parent)
        check_regular(path)
        self.opened += 1
        if self._whole is not None and path.exists() and not TURNS.is_open(path) and not self._whole.take(path):
            self._set_aside(path)
        file = OpenFile(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), time.monotonic())
        try:
            if self._whole is None and file.cut_torn_line():
                self._warn("cut off a line that was not completely written; its event is written again", path)
            sync_folder(path.parent)
        except OSError:
            os.close(file.fd)
            raise
        TURNS.opened(file.fd)
        return file

    def _is_full(self, file: "OpenFile", more: int) -> bool:
        size = file.size()
        too_large = 0 < self._max_size < size + more
        too_old = 0 < self._max_age <= time.monotonic() - file.since
        return size > 0 and (too_large or too_old)

    def _set_aside(self, path: Path) -> None:
        """Rename it by the next number: the highest is the newest, also once the first ones are removed."""
        stem = path.name.removesuffix(self._ending)
        numbered = re.compile(rf"{re.escape(stem)}\.(\d+){re.escape(self._ending)}")
        numbers = [int(found[1]) for one in path.parent.iterdir() if (found := numbered.fullmatch(one.name))]
        path.rename(path.with_name(f"{stem}.{max(numbers, default=0) + 1}{self._ending}"))

    def _close(self, path: Path) -> None:
        file = self._open.pop(path)
        if self._whole is not None and file.is_whole and file.is_still_at(path):
            self._whole.sizes[str(path)] = file.size()
        TURNS.opened(file.fd, -1)
        os.close(file.fd)


class ClosedFiles:
    """How long compressed files were when they were closed: one that is as long now ends with a whole member. Between a
    stop and a start that is in a file, which a crash leaves nothing in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = False
        self.sizes: dict[str, int] = {}
        """By path, in bytes."""

    def take(self, path: Path) -> bool:
        """Whether more may be appended to the file at this path. Raises OSError."""
        if not self._read:
            self._read = True
            self.sizes |= self._saved()
        size = path.stat().st_size
        return size == 0 or self.sizes.pop(str(path), None) == size

    def save(self) -> None:
        """Keep it for the next start; if that fails the files are set aside then."""
        if self.sizes:
            with suppress(OSError):
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                self._path.write_text(json.dumps(self.sizes))

    def _saved(self) -> dict[str, int]:
        try:
            sizes = json.loads(self._path.read_bytes())
            self._path.unlink()
        except (OSError, ValueError):
            return {}
        return sizes if isinstance(sizes, dict) else {}


@dataclass(slots=True)
class OpenFile:
    """A file that is appended to."""

    fd: int
    since: float
    """Monotonic seconds at which it was opened."""
    is_whole: bool = True
    """Whether it ends with what was written completely."""

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self.fd).st_size

    def is_still_at(self, path: Path) -> bool:
        """Whether the path still leads to this file: logrotate may have moved it."""
        try:
            return os.path.samestat(os.fstat(self.fd), path.stat())
        except FileNotFoundError:
            return False

    def append(self, data: Iterable[bytes | bytearray]) -> None:
        """Write and sync. Raises OSError, after which the file ends where it did before."""
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
        """Truncate behind the last line break; return how many bytes that took."""
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
    """Raise OSError if something is at this path that is no file of bytes: a pipe and a device can take no events back,
    and put none on disk."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on disk when this returns. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o750, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
