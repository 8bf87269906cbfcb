"""Removes old files of a connector: files that it has begun by the same path, and no longer writes."""

import glob
import re
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final, NamedTuple

FIELDS: Final = {"date": r"\d{4}-\d\d-\d\d", "hour": r"\d\d", "type": "[A-Za-z0-9._-]+", "source": "[A-Za-z0-9._-]+"}
COMPRESSED: Final = r"(\.gz|\.zst)?"
NUMBER: Final = r"(\.\d+)?"
EVERY_S: Final = 60.0


class WrittenFile(NamedTuple):
    """A file on disk."""

    path: Path
    last: float
    """Time of the last write, in Unix seconds."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Limits on the age and the size of a connector's files."""

    keep: float = 0
    """Seconds that a file stays after its last write; 0: for ever."""
    max_total: int = 0
    """Bytes of all files together; 0: no limit."""


def find_removable(
    files: Sequence[WrittenFile], limits: FileLimits, now: float, is_open: Callable[[Path], bool]
) -> list[WrittenFile]:
    """Return the files that exceed the limits, the oldest first. Leave out open files. Pure."""
    found, total = [], sum(file.size for file in files)
    for file in sorted(files, key=lambda file: file.last):
        too_old = 0 < limits.keep < now - file.last
        too_much = 0 < limits.max_total < total
        if (too_old or too_much) and not is_open(file.path):
            found.append(file)
            total -= file.size
    return found


class OldFiles:
    """The files of one `path` setting."""

    def __init__(self, folder: Path, path: str, worker: int, limits: FileLimits) -> None:
        self.limits = limits
        suffix = PurePath(path).suffix
        ending = "" if "{" in suffix else suffix
        stem = str(folder / path).removesuffix(ending)
        parts = [(text, name) for text, name, *_ in string.Formatter().parse(stem)]
        fields = FIELDS | {"worker": str(worker)}
        names = "".join(re.escape(text) + (fields[name] if name else "") for text, name in parts)
        self._names = re.compile(names + NUMBER + re.escape(ending) + COMPRESSED)
        self._glob = "".join(glob.escape(text) + ("*" if name else "") for text, name in parts) + "*"
        self._last_run = -EVERY_S

    def remove(self, is_open: Callable[[Path], bool], *, at_once: bool) -> list[WrittenFile]:
        """Remove files that exceed the limits, at most once a minute unless `at_once`; return them. Raises OSError."""
        now = time.monotonic()
        if self.limits == FileLimits() or not (at_once or now - self._last_run >= EVERY_S):
            return []
        self._last_run = now
        files = list[WrittenFile]()
        for name in glob.iglob(self._glob):  # noqa: PTH207  the path may be absolute
            path = Path(name)
            if self._names.fullmatch(name) and path.is_file() and not path.is_symlink():
                about = path.stat()
                files.append(WrittenFile(path, about.st_mtime, about.st_size))
        removed = find_removable(files, self.limits, time.time(), is_open)
        for file in removed:
            file.path.unlink(missing_ok=True)
        return removed
