"""Where each worker keeps its journal and its database: the first one in the state folder itself, each other one in a
folder like it below `workers`."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from relay.journal import LOCK

WORKERS: Final = "workers"
DATABASE: Final = "relay.db"
CUTS: Final = "cuts"
CLOSED: Final = "closed"
"""Where connectors of type file remember how long their compressed files were, each in a file of its name."""
WORKER_NUMBERS: Final = 1_000_000_000
"""Parked events and replays of a worker are numbered from so many times its own number on, so that each number names
one of them."""


def worker_folder(state: Path, number: int) -> Path:
    """The folder of the worker with this number, from 0."""
    return state / WORKERS / str(number) if number else state


def worker_folders(state: Path) -> dict[int, Path]:
    """The folders of all workers that ever ran, by their numbers; that of the first is always among them.

    A worker whose database is gone has run as well: its lock says so."""
    found = {file.parent.name for name in (DATABASE, LOCK) for file in (state / WORKERS).glob(f"[1-9]*/{name}")}
    return {number: worker_folder(state, number) for number in (0, *sorted(int(n) for n in found if n.isdecimal()))}


def worker_of(number: int) -> int:
    """Which worker's a parked event or a replay with this number is."""
    return number // WORKER_NUMBERS


def other_folders(mine: Path, number: int) -> list[Path]:
    """The folders of all other workers, as seen by the one with this number in its own."""
    found = worker_folders(mine.parents[1] if number else mine)
    return [folder for other, folder in found.items() if other != number]


def journals(state: Path, path: Path) -> dict[int, tuple[Path, Path]]:
    """Of every worker that ever ran its folder and that of its journal; `path` is the setting `journal.path`."""
    return {number: (folder, journal_folder(state, path, number)) for number, folder in worker_folders(state).items()}


def journal_folder(state: Path, path: Path, number: int) -> Path:
    """Where the worker with this number has its journal, by the setting `journal.path`."""
    if number and path.is_absolute():
        return worker_folder(path, number)
    return worker_folder(state, number) / path


def cut_file(folder: Path, connector: str, part: str = "") -> Path:
    """Where the worker with this folder remembers which events of a connector go out together: those of its lane, or
    of a part of its work (a replay's number, "again")."""
    return folder / CUTS / (f"{connector}.{part}" if part else connector)


def cut_files(folder: Path, connector: str) -> list[Path]:
    """All such files of a connector."""
    return [cut_file(folder, connector), *(folder / CUTS).glob(f"{connector}.*")]


def remove_cuts_of_replays(folder: Path, but: Collection[int]) -> None:
    """Remove those of all replays but these. Raises OSError."""
    for file in (folder / CUTS).glob("*.*"):
        part = file.name.partition(".")[2]
        if part.isdecimal() and int(part) not in but:
            file.unlink(missing_ok=True)
