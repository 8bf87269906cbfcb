"""Writes files of the console into a folder, all of them or none, and takes them back. Blocking.

A file is written under a name that does not count, and gets its own name when all of them are on disk: a full disk
shows before anything has changed. What a file replaces keeps a second name until the change is settled, so that to
take it back needs no space, and brings back the same file to the byte.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE
from typing import Final, Self

from relay.console.edits.tables import Files

NEW: Final = ".%s.console-new"
OLD: Final = ".%s.console-old"
"""Names of files on their way. relay reads no file whose name begins with a dot."""
FILE_BITS: Final = 0o644
"""What a file may have of the mode of its folder: nobody but its owner writes it."""


@dataclass(slots=True)
class _Step:
    path: Path
    new: Path | None
    """None: the file is removed."""
    old: Path | None = None
    """None: there was no file."""
    stamp: tuple[int, int, int] | None = None
    """Of the file that was written; None: not yet."""


@dataclass(slots=True)
class WrittenFiles:
    """Files that have been written into a folder."""

    folder: Path
    _steps: list[_Step] = field(default_factory=list)
    _folders: list[Path] = field(default_factory=list)
    """Folders that were made."""

    @classmethod
    def write(cls, folder: Path, files: Files) -> Self:
        """Write, replace and remove files of a folder. Raises OSError, and nothing has changed then."""
        written = cls(folder)
        try:
            written._make_folder(folder)
            for name, text in files.items():
                written._prepare(folder / name, text)
            written._apply()
        except OSError:
            written.take_back()
            raise
        return written

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            self._folders.append(folder)
            make_folder(folder)

    def _prepare(self, path: Path, text: str | None) -> None:
        """Have the new text on disk beside the file, and a second name for the old file."""
        if path.parent.is_symlink() and path.parent != self.folder:
            raise OSError(f"{path.parent} is a link: the console writes nothing outside its folder")
        self._make_folder(path.parent)
        step = _Step(path, None if text is None else path.with_name(NEW % path.name))
        self._steps.append(step)
        if step.new and text is not None:
            write_new(step.new, text.encode())
        if path.exists():
            old = path.with_name(OLD % path.name)
            old.unlink(missing_ok=True)  # left over from a console that was killed
            os.link(path, old)
            step.old = old

    def _apply(self) -> None:
        for step in self._steps:
            if step.new:
                step.new.replace(step.path)
            else:
                step.path.unlink()
            step.stamp = _read_stamp(step.path)
        self._sync()

    def settle(self) -> None:
        """Forget what was there before."""
        for step in self._steps:
            if step.old:
                step.old.unlink(missing_ok=True)
            if step.new is None and step.path.parent != self.folder:
                with suppress(OSError):  # others are in it
                    step.path.parent.rmdir()

    def take_back(self) -> Sequence[str]:
        """Bring back what was there before; return the names of files that somebody has changed since, which stay.

        Raises OSError.
        """
        changed = []
        for step in reversed(self._steps):
            if step.stamp is not None and _read_stamp(step.path) != step.stamp:
                changed.append(step.path.relative_to(self.folder).as_posix())
            elif step.stamp is not None and step.old:
                step.old.replace(step.path)
            elif step.stamp is not None:
                step.path.unlink(missing_ok=True)
            for beside in filter(None, (step.new, step.old)):
                beside.unlink(missing_ok=True)
        for made in reversed(self._folders):
            with suppress(OSError):  # somebody has put a file into it
                made.rmdir()
        self._sync()
        return changed

    def _sync(self) -> None:
        for folder in {self.folder, *(step.path.parent for step in self._steps)}:
            with suppress(FileNotFoundError):  # it was made for the change, and is gone with it
                sync_folder(folder)


def write_new(path: Path, content: bytes) -> None:
    """Write a file for the owner of its folder, and have it on disk. Replaces a file of this name. Raises OSError."""
    about = path.parent.stat()
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, S_IMODE(about.st_mode) & FILE_BITS | 0o600)
            give_to_owner(descriptor, about)
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, or replace it, in one step. Raises OSError, and nothing has changed then."""
    new = path.with_name(NEW % path.name)
    write_new(new, content)
    new.replace(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder with mode and owner of the folder that it is in. Raises OSError."""
    about = folder.parent.stat()
    folder.mkdir(S_IMODE(about.st_mode) & 0o755 | 0o700, exist_ok=True)
    give_to_owner(folder, about)
    sync_folder(folder.parent)


def give_to_owner(path: Path | int, about: os.stat_result) -> None:
    """Give a file to the owner of its folder, if root writes it: relay has to read it. Raises OSError."""
    if os.geteuid() == 0:
        os.chown(path, about.st_uid, about.st_gid)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_stamp(path: Path) -> tuple[int, int, int]:
    """Return what tells whether a file is still the same; zeros without a file."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return 0, 0, 0
    return about.st_ino, about.st_mtime_ns, about.st_size
