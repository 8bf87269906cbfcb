"""Which of a connector's files are old, and may go: those that it has begun by the same path, and no longer writes."""

import glob
import re
import string
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final, NamedTuple

FIELDS: Final = {"date": r"\d{4}-\d\d-\d\d", "hour": r"\d\d", "type": "[A-Za-z0-9._-]+", "source": "[A-Za-z0-9._-]+"}
COMPRESSED: Final = r"(\.gz|\.zst)?"
NUMBER: Final = r"(\.\d+)?"
EVERY_S: Final = 60.0


class Written(NamedTuple):
    """A file that is there."""

    path: Path
    last: float
    """When it was written last, in Unix seconds."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What a connector's files may come to."""

    keep: float = 0
    """Seconds since a file was written last; 0: for ever."""
    max_total: int = 0
    """Bytes of all of them; 0: no limit."""


def going(files: Sequence[Written], limits: FileLimits, now: float, is_open: Callable[[Path], bool]) -> list[Written]:
    """The files that are to be removed, the oldest first, but none that is open. Pure."""
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
        self._looked = -EVERY_S

    def remove(self, is_open: Callable[[Path], bool], *, at_once: bool) -> list[Written]:
        """Remove those that may go, at most once a minute unless `at_once`; return what went."""
        now = time.monotonic()
        if self.limits == FileLimits() or not (at_once or now - self._looked >= EVERY_S):
            return []
        self._looked = now
        found = going([*self._files()], self.limits, time.time(), is_open)
        for file in found:
            file.path.unlink(missing_ok=True)
        return found

    def _files(self) -> Iterator[Written]:
        for name in glob.iglob(self._glob):  # noqa: PTH207  the path may be absolute
            path = Path(name)
            if self._names.fullmatch(name) and path.is_file() and not path.is_symlink():
                about = path.stat()
                yield Written(path, about.st_mtime, about.st_size)
