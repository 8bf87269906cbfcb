"""One file of the journal: created, written and sealed by the writer; read by anybody.

A segment is named by the offset of its first event. It is allocated in full when it is created, so a full disk shows
before an event is accepted, and cut to its used size when it is sealed.
"""

import errno
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from relay.api import Block
from relay.journal.record import HEADER, Header, decode, header_at, whole_records

MAGIC: Final = b"relayjn1"
PREFIX: Final = struct.Struct("<8sIQI")  # magic, salt, first offset, crc of these
SUFFIX: Final = ".log"
FRESH: Final = ".fresh"
"""Of a segment that is written anew, until it takes the old one's place."""
DAMAGED: Final = ".damaged"
"""Of a damaged segment that is kept beside the one that took its place."""
READ_BYTES: Final = 1 << 20


class Corrupt(Exception):
    """A segment that should be whole is not. Nothing is guessed: only records whose checksum is right are read."""


@dataclass(slots=True)
class Segment:
    """What is known of a segment file without opening it. `end` is the offset behind its last event."""

    path: Path
    base: int
    end: int
    size: int
    """Bytes it takes on disk."""
    written: float
    """Unix seconds of the last event in it."""


def path_of(folder: Path, base: int) -> Path:
    """The file of the segment whose first event has this offset."""
    return folder / f"{base:020d}{SUFFIX}"


def base_of(path: Path) -> int:
    """The first offset that a segment file's name tells."""
    return int(path.name.removesuffix(SUFFIX))


def segment_files(folder: Path) -> list[Path]:
    """The segments of a folder, the oldest first."""
    return sorted(folder.glob(f"[0-9]*{SUFFIX}"), key=base_of)


def create(folder: Path, base: int, size: int) -> tuple[int, int]:
    """Make a segment of `size` bytes; return its file descriptor and salt. Raises OSError, and then there is no file.

    File and folder are synced before the first record counts.
    """
    path, salt = path_of(folder, base), secrets.randbits(32)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        write_all(fd, [prefix_of(salt, base)], 0)
        os.fsync(fd)
        sync_folder(folder)
    except OSError:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd, salt


def prefix_of(salt: int, base: int) -> bytes:
    """How a segment begins."""
    head = PREFIX.pack(MAGIC, salt, base, 0)[:-4]
    return head + crc32(head).to_bytes(4, "little")


def read_salt(fd: int, base: int) -> int | None:
    """The salt of an open segment; None if the file does not start as the segment of that offset should."""
    return salt_of(os.pread(fd, PREFIX.size, 0), base)


def salt_of(data: bytes, base: int) -> int | None:
    """The same of what a segment holds."""
    prefix = data[: PREFIX.size]
    if len(prefix) < PREFIX.size:
        return None
    magic, salt, first, check = PREFIX.unpack(prefix)
    whole = magic == MAGIC and first == base and check == crc32(prefix[:-4])
    return int(salt) if whole else None


def write_all(fd: int, parts: list[bytes], at: int) -> int:
    """Write the parts at this place, whole. A full disk first shows as a short count, not as an error."""
    total = sum(map(len, parts))
    done = os.pwritev(fd, parts, at)
    while done < total:
        wrote = os.pwrite(fd, b"".join(parts)[done:], at + done)
        done += wrote
    return total


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_text(path: Path, text: str) -> None:
    """Have a file hold this text, durably, in one step. Raises OSError."""
    fresh = path.with_name(f"{path.name}{FRESH}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
    sync_folder(path.parent)


def write_anew(path: Path, salt: int, records: Iterable[bytes]) -> Path:
    """Write other records for a segment beside its file; synced, to be `put_in_place`. Raises OSError."""
    fresh = path.with_name(path.name + FRESH)
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        at = write_all(fd, [prefix_of(salt, base_of(path))], 0)
        for record in records:
            at += write_all(fd, [record], at)
        os.fsync(fd)
    finally:
        os.close(fd)
    return fresh


def copy_of(fd: int, path: Path, size: int) -> Path:
    """Write the first `size` bytes of an open segment beside its file; synced, to be `put_in_place`. Raises OSError."""
    fresh = path.with_name(path.name + FRESH)
    copy = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        at = 0
        while at < size:
            if not (data := os.pread(fd, min(READ_BYTES, size - at), at)):
                raise OSError(errno.EIO, "the segment was truncated meanwhile", str(path))
            at += write_all(copy, [data], at)
        os.fsync(copy)
    finally:
        os.close(copy)
    return fresh


def put_in_place(fresh: Path, path: Path) -> None:
    """Have a segment that was written anew take the old one's place, in one step. Raises OSError."""
    fresh.replace(path)
    sync_folder(path.parent)


class SegmentReader:
    """Reads records one after the other from a position in a segment; keeps its place between calls."""

    def __init__(self, path: Path) -> None:
        self.base = base_of(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._inode = os.fstat(self.fd).st_ino
        salt = read_salt(self.fd, self.base)
        if salt is None:
            self.close()
            raise Corrupt(f"{path}: not a segment of this journal")
        self.path, self.salt = path, salt
        self.at, self.offset = PREFIX.size, self.base

    def read(self, offset: int, end: int, max_bytes: int = READ_BYTES) -> list[Block]:
        """The blocks from the one that holds `offset` on, as far as `max_bytes` reach and below `end`: at least one,
        unless what comes next was lost and left out by a repair.

        Raises Corrupt if a record below `end` is damaged or missing.
        """
        if offset < self.offset:
            self.at, self.offset = PREFIX.size, self.base
        began = self.at
        while self.offset < end:
            found = []
            try:
                for block in self._chunk(end, max_bytes, offset):
                    if block.offsets[-1] >= offset:
                        found.append(block)  # noqa: PERF401  what comes before the damage is good
            except Corrupt:
                if self.at == began:
                    raise
                return found
            if found:
                return found
        return []

    def find(self, offset: int) -> bool:
        """Stand before the first whole record that holds events from this offset on, whatever lies damaged before it;
        False if there is none. Reads the whole file: for when `read` has raised Corrupt."""
        data = os.pread(self.fd, os.fstat(self.fd).st_size, 0)
        for at, header in whole_records(data, PREFIX.size, self.salt, self.base):
            if header.end > offset:
                self.at, self.offset = at, header.offset
                return True
        return False

    def _chunk(self, end: int, max_bytes: int, wanted: int) -> Iterator[Block]:
        """The records of one read; those wholly below `wanted` are passed over unread."""
        data = os.pread(self.fd, max_bytes, self.at)
        first = header_at(data, 0)
        if first is not None and len(data) < first.size <= os.fstat(self.fd).st_size:
            data = os.pread(self.fd, first.size, self.at)
        at = 0
        while self.offset < end:
            header = header_at(data, at)
            if header is None or at + header.size > len(data):
                break
            if header.is_lost:
                self._block(data, at, header)
            elif header.offset + header.events > wanted:
                yield self._block(data, at, header)
            at += header.size
            self.at, self.offset = self.at + header.size, header.offset + header.events
        if at == 0:
            raise Corrupt(f"{self.path}: no record for offset {self.offset} at byte {self.at}")

    def _block(self, data: bytes, at: int, header: Header) -> Block:
        block = decode(data, at, header, self.salt) if header.offset == self.offset else None
        if block is None:
            raise Corrupt(f"{self.path}: bad record at byte {self.at} (offset {self.offset})")
        return block

    @property
    def is_replaced(self) -> bool:
        """Whether another file has the name of this one by now."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a segment ends."""

    end: int
    """The offset behind its last whole record."""
    good: int
    """The offset behind the last record before the first damage; less than `end` if whole records follow damage."""
    used: int
    """The byte behind that record."""
    received: float
    """When the last whole record was received, in Unix seconds."""
    events: int
    """In whole records."""
    torn: bool
    """Whether anything but zeros follows the last good record."""


def find_end(path: Path) -> Ending:
    """Read a segment to its last whole record. Raises Corrupt if the file does not begin as a segment; OSError."""
    reader = SegmentReader(path)
    try:
        data = os.pread(reader.fd, os.fstat(reader.fd).st_size, 0)
    finally:
        reader.close()
    good, used, end, received, events = reader.base, PREFIX.size, reader.base, 0.0, 0
    for at, header in whole_records(data, PREFIX.size, reader.salt, reader.base):
        if at == used and header.offset == good:
            good, used = header.end, at + header.size
        end, received, events = header.end, header.received_us / 1e6 or received, events + header.events
    return Ending(end, good, used, received, events, any(data[used:].rstrip(b"\0")))


def whole_events(path: Path) -> int:
    """How many events of a segment are in whole records. Raises OSError."""
    try:
        return find_end(path).events
    except Corrupt:
        return 0


def is_blank(path: Path) -> bool:
    """Whether a segment without a readable prefix holds nothing behind it either."""
    with path.open("rb") as file:
        file.seek(PREFIX.size)
        return not any(file.read(HEADER.size))
