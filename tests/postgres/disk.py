"""A disk that loses what was not synced when its power is cut: ext4 on a loop device. Only root can make it."""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.postgres.guard import guard_folders
from tests.postgres.server import find_user

SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from now on the file system writes nothing."""
NOTHING = struct.pack("I", 2)
"""Not even its journal."""
NEEDS_ROOT = "a disk that loses its power needs root: it is ext4 on a loop device"
MIB = 512


class VolatileDisk:
    """A mounted disk. `folder` belongs to the user who runs servers."""

    def __init__(self, place: Path) -> None:
        self._image, self._mount = place / "image", place / "disk"
        self._mount.mkdir()
        with self._image.open("wb") as image:
            image.truncate(MIB << 20)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self._mount))
        self.folder = self._mount / "server"
        self.folder.mkdir()
        shutil.chown(self.folder, find_user())

    @classmethod
    @contextmanager
    def mount(cls) -> Iterator[Self]:
        """Mount a disk for the body."""
        place = Path(tempfile.mkdtemp(prefix=guard_folders()))
        place.chmod(0o755)
        try:
            disk = cls(place)
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(place / "disk")], check=False)
            shutil.rmtree(place)

    def sync(self) -> None:
        """Write everything. Servers make their files without that."""
        _run("sync", "-f", str(self.folder))

    def cut_power(self) -> None:
        """Write nothing any more. Processes get errors from the disk."""
        folder = os.open(self._mount, os.O_RDONLY)
        fcntl.ioctl(folder, SHUTDOWN, NOTHING)
        os.close(folder)

    def restore_power(self) -> None:
        """Mount what was synced. No process of this test may use the disk.

        It is mounted from a copy: other tests run processes with mounts of their own, which keep the dead disk alive,
        and Linux would mount the same image as that disk.
        """
        _run("umount", str(self._mount))
        dead, self._image = self._image, self._image.with_name("copy")
        _run("cp", "--sparse=always", str(dead), str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self._mount))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode()}")
