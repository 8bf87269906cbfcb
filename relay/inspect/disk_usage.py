"""What takes the room on the file system of a state folder, for whoever has to free some. Blocking."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from relay.state import WORKERS

LARGEST: Final = 4
LEAST_BYTES: Final = 64 << 10
"""What takes less is not worth telling."""
BLOCK_BYTES: Final = 512
OTHERS: Final = "files that are not relay's"
UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def usage(state: Path, journal: Path, workers: int, files: Iterable[Path] = ()) -> dict[str, int]:
    """Bytes on the file system of the state folder by what takes them: the parts of that folder, the folders elsewhere
    of files that connectors write, and all others together. `journal`: the setting `journal.path`; `workers`: those
    that are configured."""
    found = Counter[str]()
    for entry in _entries(state):
        if entry.name == WORKERS:
            found.update({_worker(one.name, workers): _taken(one) for one in _entries(Path(entry.path))})
        else:
            found["journal" if Path(entry.path) == state / journal else entry.name] += _taken(entry)
    elsewhere = {state / journal, *((state / file).parent for file in files)}
    for folder in elsewhere:
        if not folder.is_relative_to(state) and _device(folder) == _device(state):
            found["journal" if folder == journal else str(folder)] += sum(map(_taken, _entries(folder)))
    found[OTHERS] = max(0, _used(state) - found.total())
    return dict(found.most_common())


def describe_usage(found: dict[str, int]) -> str:
    """The largest of them in words, such as "archive 12.1 GiB, journal 1.0 GiB"."""
    large = [(name, size) for name, size in found.items() if size >= LEAST_BYTES]
    return ", ".join(f"{name} {_size(size)}" for name, size in large[:LARGEST])


def _worker(name: str, workers: int) -> str:
    if name.isdecimal() and int(name) >= workers:
        return f"{WORKERS}/{name}, which runs no more,"
    return f"{WORKERS}/{name}"


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError:  # it is gone, or not for us
        return []


def _taken(entry: "os.DirEntry[str]") -> int:
    try:
        if entry.is_dir(follow_symlinks=False):
            return sum(map(_taken, _entries(Path(entry.path))))
        return entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
    except OSError:
        return 0


def _used(folder: Path) -> int:
    """Bytes that are taken on the file system of a folder."""
    try:
        about = os.statvfs(folder)
    except OSError:
        return 0
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def _device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _size(amount: int) -> str:
    size, unit = next((one for one in UNITS if amount >= one[0]), UNITS[-1])
    return f"{amount / size:.1f} {unit}"
