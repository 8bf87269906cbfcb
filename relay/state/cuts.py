"""The files of cuts, in the folder `cuts` beside relay.db: a file for each lane, and for other parts of its work.

How they fail and recover:

- A line is one write, without a sync. It outlives `kill -9`. A power cut may lose it.
- A file begins with the id of its journal. The lines of another journal are not used.
- Each line has a checksum. A torn line at the end never counted.
- A file is written anew beside the old one, whose place it takes in one step.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final
from zlib import crc32

import structlog

from relay.state.database_file import convert_errors

CUTS: Final = "cuts"
KIND: Final = b"relay cuts 1 "
FRESH: Final = ".new"
"""The suffix of a file until it takes the place of the old one."""
CHECKSUM: Final = 9
"""Characters of a line before its text: the checksum, and a space."""
log = structlog.stdlib.get_logger()


def make_cut_file(folder: Path, connector: str, part: str = "") -> Path:
    """Return the file that saves which events of a connector go out together.

    `part`: a part of its work, a replay's number or "again"; without it the file is the lane's.
    """
    return folder / CUTS / (f"{connector}.{part}" if part else connector)


def list_cut_files(folder: Path, connector: str) -> list[Path]:
    """List all such files of a connector."""
    return [make_cut_file(folder, connector), *(folder / CUTS).glob(f"{connector}.*")]


def read_cuts(folder: Path, journal: str) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield the lines of all such files: connector, part, number, line. `journal`: the id of the journal. Raises
    Unavailable, OSError."""
    for file in sorted((folder / CUTS).glob("*")):
        if file.suffix == FRESH:
            continue
        connector, _, part = file.name.partition(".")
        for number, line in enumerate(CutFile(folder, connector, part, journal).load()):
            yield connector, part, number, line


def write_cuts(folder: Path, journal: str, lines: Iterable[tuple[str, str, int, bytes]]) -> None:
    """Put lines, as `read_cuts` yields them, in place of all such files. Raises Unavailable, OSError."""
    for file in (folder / CUTS).glob("*"):
        file.unlink()
    for (connector, part), rows in groupby(lines, itemgetter(0, 1)):
        lane = CutFile(folder, connector, part, journal)
        lane.rewrite([line for *_, line in rows])
        lane.close()


def remove_cuts_of_replays(folder: Path, but: Collection[int]) -> None:
    """Remove such files of all replays but these. Raises OSError."""
    for file in (folder / CUTS).glob("*.*"):
        part = file.name.partition(".")[2]
        if part.isdecimal() and int(part) not in but:
            file.unlink(missing_ok=True)


class CutFile:
    """A file of cuts. See `relay.store.CutLines`. All methods raise Unavailable."""

    def __init__(self, folder: Path, connector: str, part: str, journal: str) -> None:
        """`folder` is the folder of the worker; `journal` is the id of the journal with the offsets."""
        self._connector, self._path = connector, make_cut_file(folder, connector, part)
        self._header = KIND + f"{journal}\n".encode()
        self.where = str(self._path)
        self._fd: int | None = None

    @convert_errors()
    def load(self) -> list[bytes]:
        """Return all lines without their checksums. A damaged line comes back empty. Blocking."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        if not data.startswith(self._header):
            is_whole = data.startswith(KIND) and b"\n" in data
            what = "cuts of another journal are not used" if is_whole else "cuts are damaged"
            log.warning(what, connector=self._connector, file=self.where)
            return []
        *lines, _ = data[len(self._header) :].split(b"\n")  # the last one is torn, if there is one: it never went out
        return [text if line + b"\n" == _encode(text := line[CHECKSUM:]) else b"" for line in lines]

    def append(self, line: bytes) -> None:
        """Add a line. The file must have been written anew before."""
        if self._fd is None:
            raise ValueError(f"{self.where} is not open")
        with convert_errors():
            _write(self._fd, _encode(line))

    @convert_errors()
    def rewrite(self, lines: Sequence[bytes]) -> None:
        """Write the file anew with these lines, and keep it open."""
        self.close()
        fresh = self._path.with_name(f"{self._path.name}{FRESH}")
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _write(self._fd, self._header + b"".join(map(_encode, lines)))
        fresh.replace(self._path)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None

    @convert_errors()
    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


def _encode(text: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(text), text)


def _write(fd: int, data: bytes) -> None:
    if os.write(fd, data) < len(data):
        raise OSError("the disk is full")
