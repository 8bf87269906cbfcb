"""Locks a folder for one relay. Two relays with one journal would overwrite each other's events."""

import fcntl
import os
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
"""The file in a folder that names the process with the lock."""


def lock(folder: Path) -> int:
    """Lock a folder for this process until the returned descriptor is closed or the process ends.

    Raises OSError if another process has the lock.
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        used = f"{folder} is in use by another relay (process {read_holder(folder) or 'unknown'})"
        raise OSError(f"{used}: stop that relay, or use another folder") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def is_locked(folder: Path) -> bool:
    """Return whether a process has locked the folder."""
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


def read_holder(folder: Path) -> int | None:
    """Return the process with the lock; None without any, or if it is unknown. Raises OSError."""
    if not is_locked(folder):
        return None
    said = (folder / LOCK).read_text(errors="replace").strip()
    return int(said) if said.isdecimal() else None
