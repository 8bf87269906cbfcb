"""One relay per folder: two that write the same journal would overwrite each other's events."""

import fcntl
import os
from pathlib import Path
from typing import Final

FILE_NAME: Final = "lock"


def lock(folder: Path) -> int:
    """Lock a folder for this process, until the returned descriptor is closed or the process ends, however it ends.

    Raises OSError if another process has it.
    """
    fd = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise OSError(f"{folder} is in use by another relay (process {holder})") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def is_locked(folder: Path) -> bool:
    """Whether a process has locked the folder."""
    try:
        fd = os.open(folder / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
