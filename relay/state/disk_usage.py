"""Finds what fills the file system of a state folder. Blocking."""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.journal import SUFFIX
from relay.state.layout import WORKERS, make_journal_folder
from relay.words import format_largest

NEEDED_BYTES: Final = 1 << 20
"""Free bytes that relay.db needs to open."""
BLOCK_BYTES: Final = 512
OTHERS: Final = "files that are not relay's"


def measure_usage(state: Path, journal: Path, workers: int, files: Iterable[Path] = ()) -> dict[str, int]:
    """Return the used bytes on the file system of the state folder by what uses them.

    The parts of that folder, the folders of files that connectors write elsewhere, and all the rest together.
    `journal`: the setting `journal.path`; `workers`: the configured number.
    """
    found = Counter[str]()
    for entry in _list_entries(state):
        if entry.name == WORKERS:
            for one in _list_entries(Path(entry.path)):
                is_over = one.name.isdecimal() and int(one.name) >= workers
                name = f"{WORKERS}/{one.name}"
                found[f"{name}, which runs no more," if is_over else name] += _measure_entry(one)
        else:
            found["journal" if Path(entry.path) == state / journal else entry.name] += _measure_entry(entry)
    elsewhere = {state / journal, *((state / file).parent for file in files)}
    for folder in elsewhere:
        if not folder.is_relative_to(state) and _find_device(folder) == _find_device(state):
            found["journal" if folder == journal else str(folder)] += sum(map(_measure_entry, _list_entries(folder)))
    found[OTHERS] = 0
    with suppress(OSError):
        about = os.statvfs(state)
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        found[OTHERS] = max(0, used - found.total())
    return dict(found.most_common())


def measure_journals(state: Path, path: Path, workers: int) -> int:
    """Return the bytes that the journals of so many workers take on disk. `path`: the setting `journal.path`."""
    folders = [make_journal_folder(state, path, number) for number in range(workers)]
    return sum(_measure_entry(one) for folder in folders for one in _list_entries(folder) if one.name.endswith(SUFFIX))


def describe_full_disk(state: Path, journal: Path, workers: int) -> str:
    """Describe a full disk of a state folder, and what to do; return "" if it is not full.

    `journal`: the setting `journal.path`; `workers`: the configured number.
    """
    try:
        about = os.statvfs(state)
    except OSError:
        return ""
    if about.f_bavail * about.f_frsize >= NEEDED_BYTES:
        return ""
    found = format_largest(measure_usage(state, journal, workers))
    holds = f" (it holds {found})" if found else ""
    return f"its file system is full{holds}: free some space"


def _list_entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError:  # it is gone, or not for us
        return []


def _measure_entry(entry: "os.DirEntry[str]") -> int:
    try:
        if entry.is_dir(follow_symlinks=False):
            return sum(map(_measure_entry, _list_entries(Path(entry.path))))
        return entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
    except OSError:
        return 0


def _find_device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None
