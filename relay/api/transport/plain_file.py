"""Reads small files that others wrote, and never waits for them."""

import os
import stat
from pathlib import Path


class NotPlain(ValueError):
    """What is at a path is no plain file, or is too large."""


def read_plain(path: Path, most: int) -> bytes:
    """Return what a plain file holds, up to `most` bytes.

    Raises OSError, and `NotPlain` for a larger file and for anything else but a file: a FIFO would keep its reader
    waiting for ever, and a device has no end.
    """
    check_plain(path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may have been replaced by a FIFO
    with os.fdopen(descriptor, "rb") as file:
        check_plain(os.fstat(descriptor).st_mode)
        content = file.read(most + 1)
    if len(content) > most:
        raise NotPlain(f"is larger than {most:,} bytes")
    return content


def check_plain(mode: int) -> None:
    """Raise `NotPlain` for anything but a file, by its mode."""
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        raise NotPlain(f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")
