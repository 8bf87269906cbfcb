"""The folders of the workers: the state folder itself for the first worker, folders below `workers` for the others."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from relay.journal import LOCK

WORKERS: Final = "workers"
DATABASE: Final = "relay.db"
SEEN: Final = "seen"
"""Where the journal notes the ids of recent events, by which it finds duplicates."""
MARKER: Final = "unfinished-restore"
"""A file in the state folder during a restore: the source and the journal's folder, a line each."""
BAR: Final = "barred"
"""A file in the state folder that says why no relay starts there, and what to do."""
CLOSED: Final = "closed"
"""Where connectors of type file save the lengths of their compressed files, a file per connector and partition."""


def make_worker_folder(state: Path, number: int) -> Path:
    """Return the folder of the worker with this number, from 0."""
    return state / WORKERS / str(number) if number else state


def advise_on_restore(state: Path) -> str:
    """Return what to do about an interrupted restore in a state folder; "" without any. Raises OSError."""
    source = (read_marker(state) or "").partition("\n")[0]
    return f"a restore was broken off there: run relay restore {source} --state {state} again" if source else ""


def read_marker(state: Path) -> str | None:
    """Read the marker of an unfinished restore; return None without any. Raises OSError."""
    try:
        return (state / MARKER).read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_bar(state: Path) -> str:
    """Return why no relay starts with a state folder, except for a broken restore; "" if relays start. Raises
    OSError."""
    try:
        return (state / BAR).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def find_bar(state: Path) -> str:
    """Return why no relay starts with a state folder, and what to do; "" if relays start. Raises OSError."""
    return advise_on_restore(state) or read_bar(state)


def give_ownership(made: Iterable[Path], state: Path) -> None:
    """Give what root has made to the owner of the state folder. Raises OSError."""
    if os.geteuid() == 0:
        about = state.stat()
        for path in made:
            os.chown(path, about.st_uid, about.st_gid, follow_symlinks=False)


def list_worker_folders(state: Path) -> dict[int, Path]:
    """Return the folders of all workers that ever ran, by number, always with the first worker's.

    A worker whose database is missing has run as well: its lock shows that.
    """
    found = {file.parent.name for name in (DATABASE, LOCK) for file in (state / WORKERS).glob(f"[1-9]*/{name}")}
    return {
        number: make_worker_folder(state, number) for number in (0, *sorted(int(n) for n in found if n.isdecimal()))
    }


def list_other_folders(mine: Path, number: int) -> list[Path]:
    """Return the folders of all workers but number `number`, whose folder is `mine`."""
    found = list_worker_folders(mine.parents[1] if number else mine)
    return [folder for other, folder in found.items() if other != number]


def list_journals(state: Path, path: Path) -> dict[int, tuple[Path, Path]]:
    """Return the folder and the journal's folder of every worker that ever ran. `path`: the setting `journal.path`."""
    return {
        number: (folder, make_journal_folder(state, path, number))
        for number, folder in list_worker_folders(state).items()
    }


def make_journal_folder(state: Path, path: Path, number: int) -> Path:
    """Return the folder of a worker's journal. `path`: the setting `journal.path`."""
    if number and path.is_absolute():
        return make_worker_folder(path, number)
    return make_worker_folder(state, number) / path
