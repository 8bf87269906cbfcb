"""What the disk under the journal takes by itself: the same writes at the same pace, without relay."""

import os
import time
from pathlib import Path
from typing import Final

SIZE: Final = 64 << 20


def sync_seconds(folder: Path, size: int, rate: float, seconds: float) -> list[float]:
    """Append `size` bytes to an allocated file `rate` times a second; return how long each write with fdatasync took.

    Blocking. Ends early when the file is full."""
    path, record = folder / "disk-probe", os.urandom(size)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        os.posix_fallocate(fd, 0, SIZE)
        os.fsync(fd)
        begin = time.monotonic()
        count = min(int(rate * seconds), SIZE // size)
        return [_write(fd, record, number, begin + number / rate) for number in range(count)]
    finally:
        os.close(fd)
        path.unlink()


def _write(fd: int, record: bytes, number: int, due: float) -> float:
    time.sleep(max(0.0, due - time.monotonic()))
    begin = time.monotonic()
    os.pwrite(fd, record, number * len(record))
    os.fdatasync(fd)
    return time.monotonic() - begin
