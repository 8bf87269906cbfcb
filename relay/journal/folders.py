"""Where each worker keeps its journal and its database: the first one in the state folder itself, each other one in a
folder like it below `workers`."""

from pathlib import Path
from typing import Final

FOLDER_NAME: Final = "workers"
WORKER_NUMBERS: Final = 1_000_000_000
"""Parked events and replays of a worker are numbered from so many times its own number on, so that each number names
one of them."""


def worker_folder(state: Path, number: int) -> Path:
    """The folder of the worker with this number, from 0."""
    return state / FOLDER_NAME / str(number) if number else state


def worker_folders(state: Path) -> dict[int, Path]:
    """The folders of all workers that ever ran, by their numbers; that of the first is always among them."""
    others = (state / FOLDER_NAME).glob("[1-9]*")
    numbers = sorted(int(folder.name) for folder in others if folder.name.isdecimal() and folder.is_dir())
    return {number: worker_folder(state, number) for number in (0, *numbers)}


def journal_folder(state: Path, path: Path, number: int) -> Path:
    """Where the worker with this number has its journal, by the setting `journal.path`."""
    if number and path.is_absolute():
        return worker_folder(path, number)
    return worker_folder(state, number) / path
