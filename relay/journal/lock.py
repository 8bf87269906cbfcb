"""One relay per folder: two that write the same journal would overwrite each other's events."""

import fcntl
import os
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
"""The name of the file in a folder that says which process uses the folder."""


def lock(folder: Path) -> int:
    """Lock a folder for this process, until the returned descriptor is closed or the process ends, however it ends.

    Raises OSError if another process has it.
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise OSError(f"{folder} is in use by another relay (process {holder(folder) or 'unknown'})") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def is_locked(folder: Path) -> bool:
    """Whether a process has locked the folder."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def holder(folder: Path) -> int | None:
    """The process that has locked the folder; None if there is none, or it does not say. Raises OSError."""
    if not is_locked(folder):
        return None
    said = (folder / LOCK).read_text(errors="replace").strip()
    return int(said) if said.isdecimal() else None
