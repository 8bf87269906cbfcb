"""One file of the journal: the writer creates, writes and seals it, anybody may read it.

A segment is named by the offset of its first event. Its full size is allocated when it is created, so that a full disk
shows before an event is accepted. Sealing cuts it to its used size.
"""

import errno
import os
import re
import secrets
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from zlib import crc32

from msgspec import Struct

from relay.api import Block
from relay.journal.compression import Unsupported
from relay.journal.live.tail_reader import READ_BYTES
from relay.journal.record import HEADER, Header, StoredRecord, decode, find_records, is_readable, read_header

MAGIC: Final = b"relayjn1"
PREFIX: Final = struct.Struct("<8sIQI")  # magic, salt, first offset, crc of these
LATER: Final = re.compile(rb"relayjn[^1]([0-9]+(?:\.[0-9]+)*)\0+")
"""The first bytes of a segment in a later format: another mark, and the first version that reads it."""
SUFFIX: Final = ".log"
FRESH: Final = ".fresh"
"""The suffix of a rewritten segment until it replaces the old one."""
MARK: Final = f"compressed events need a released relay, 0.1.0 or later{FRESH}"
"""The name of a folder beside compressed segments. Earlier relays do not start: they fail to remove it as a file."""
DAMAGED: Final = ".damaged"
"""The suffix of a damaged segment that is kept beside its replacement."""
RATIO: Final = 4
"""About how many times as large a compressed record is in memory."""
ZEROS: Final = bytes(1 << 20)


class Corrupt(Exception):
    """Raised when a segment that should be whole is not. Only records with the right checksum are read."""


class Segment(Struct):
    """A segment file without its content. `end` is the offset behind its last event."""

    path: Path
    base: int
    end: int
    size: int
    """Bytes on disk."""
    written: float
    """Time of its last event in Unix seconds."""


def make_path(folder: Path, base: int) -> Path:
    """Return the file of the segment whose first event has this offset."""
    return folder / f"{base:020d}{SUFFIX}"


def parse_base(path: Path) -> int:
    """Return the first offset that a segment file's name tells."""
    return int(path.name.removesuffix(SUFFIX))


def list_segment_files(folder: Path) -> list[Path]:
    """Return the segments of a folder, the oldest first."""
    return sorted(folder.glob(f"[0-9]*{SUFFIX}"), key=parse_base)


def create_segment(folder: Path, base: int, size: int) -> tuple[int, int]:
    """Create a segment of `size` bytes; return its file descriptor and salt.

    File and folder are synced before the first record counts. Raises OSError, and leaves no file then.
    """
    path, salt = make_path(folder, base), secrets.randbits(32)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        write_all(fd, [encode_prefix(salt, base)], 0)
        os.fsync(fd)
        sync_folder(folder)
    except OSError:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd, salt


def encode_prefix(salt: int, base: int) -> bytes:
    """Encode the first bytes of a segment."""
    head = PREFIX.pack(MAGIC, salt, base, 0)[:-4]
    return head + crc32(head).to_bytes(4, "little")


def read_salt(fd: int, base: int) -> int | None:
    """Read the salt of an open segment; return None if its first bytes are not those of the segment of that offset.

    Raises Unsupported."""
    return parse_salt(os.pread(fd, PREFIX.size, 0), base)


def parse_salt(data: bytes, base: int) -> int | None:
    """Parse the salt from the first bytes of a segment; return None if they are not a segment's. Raises Unsupported."""
    prefix = data[: PREFIX.size]
    if len(prefix) < PREFIX.size:
        return None
    if later := LATER.fullmatch(prefix):
        raise Unsupported(f"relay {later[1].decode()} or later is needed to read the segment of offset {base}")
    magic, salt, first, check = PREFIX.unpack(prefix)
    whole = magic == MAGIC and first == base and check == crc32(prefix[:-4])
    return int(salt) if whole else None


def write_all(fd: int, parts: list[bytes], at: int) -> int:
    """Write all parts at this place. A full disk first shows as a short count, not as an error."""
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


def mark_compressed(folder: Path) -> None:
    """Mark a folder durably as one with compressed records. Raises OSError."""
    (folder / MARK).mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder)


def replace_text(path: Path, text: str) -> None:
    """Replace the content of a file by this text, durably and in one step. Raises OSError."""
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
    """Write other records for a segment beside its file, synced, for `put_in_place`. Raises OSError."""
    fresh = path.with_name(path.name + FRESH)
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        at = write_all(fd, [encode_prefix(salt, parse_base(path))], 0)
        for record in records:
            at += write_all(fd, [record], at)
        os.fsync(fd)
    finally:
        os.close(fd)
    return fresh


def copy_segment(fd: int, path: Path, size: int) -> Path:
    """Copy the first `size` bytes of an open segment beside its file, synced, for `put_in_place`. Raises OSError."""
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
    """Replace a segment by its rewritten file in one step. Raises OSError."""
    fresh.replace(path)
    sync_folder(path.parent)


class SegmentReader:
    """Reads the records of a segment one after the other, and remembers its place between calls."""

    def __init__(self, path: Path) -> None:
        """Raises Corrupt, Unsupported, OSError."""
        self.base = parse_base(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._inode = os.fstat(self.fd).st_ino
        try:
            salt = read_salt(self.fd, self.base)
            if salt is None:
                raise Corrupt(f"{path}: not a segment of this journal")
        except BaseException:
            self.close()
            raise
        self.path, self.salt = path, salt
        self.at, self.offset = PREFIX.size, self.base
        self.is_compressed = False
        """Whether one of the records read so far was compressed."""

    def read(self, offset: int, end: int, max_bytes: int = READ_BYTES) -> list[Block]:
        """Return the blocks from `offset` on, about `max_bytes` and below `end`.

        Returns at least one block, unless a repair left out what comes next. Raises Corrupt if a record below `end` is
        damaged or missing; Unsupported.
        """
        if offset < self.offset:
            self.at, self.offset = PREFIX.size, self.base
        began = self.at
        while self.offset < end:
            found = []
            try:
                for block in self._read_chunk(end, max_bytes, offset):
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
        """Find the first good record with events from this offset on, past any damage; return False without any.

        Reads the whole file: for use after `read` has raised Corrupt.
        """
        data = os.pread(self.fd, os.fstat(self.fd).st_size, 0)
        for at, header in find_records(data, PREFIX.size, self.salt, self.base):
            if header.end > offset and is_readable(data, at, header):
                self.at, self.offset = at, header.offset
                return True
        return False

    def _read_chunk(self, end: int, max_bytes: int, wanted: int) -> Iterator[Block]:
        """Yield the records of one read. Skips records wholly below `wanted`."""
        piece = max_bytes // RATIO if self.is_compressed else max_bytes
        data = os.pread(self.fd, max(piece, HEADER.size), self.at)
        first = read_header(data, 0)
        if first is not None and len(data) < first.size <= os.fstat(self.fd).st_size:
            data = os.pread(self.fd, first.size, self.at)
        at = decompressed = 0
        while self.offset < end and decompressed < max_bytes:
            header = read_header(data, at)
            if header is None or at + header.size > len(data):
                break
            if header.is_lost:
                self._decode_block(data, at, header)
            elif header.offset + header.events > wanted:
                block = self._decode_block(data, at, header)
                if len(block.body) != header.body_bytes:
                    self.is_compressed = True
                    decompressed += len(block.body)
                yield block
            at += header.size
            self.at, self.offset = self.at + header.size, header.offset + header.events
        if at == 0:
            raise Corrupt(f"{self.path}: no record for offset {self.offset} at byte {self.at}")

    def _decode_block(self, data: bytes, at: int, header: Header) -> Block:
        try:
            block = decode(data, at, header, self.salt) if header.offset == self.offset else None
        except Unsupported as error:
            raise Unsupported(f"{self.path}: {error}") from None
        if block is None:
            raise Corrupt(f"{self.path}: bad record at byte {self.at} (offset {self.offset})")
        return block

    @property
    def is_replaced(self) -> bool:
        """Whether another file has the name of this file by now."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class Ending(Struct, frozen=True):
    """The end of a segment."""

    end: int
    """The offset behind its last whole record."""
    good: int
    """The offset behind the last record before the first damage; less than `end` if whole records follow damage."""
    used: int
    """The byte behind that record."""
    received: float
    """Time of the last whole record in Unix seconds."""
    events: int
    """Events in whole records."""
    torn: bool
    """Whether anything but zeros follows the last good record."""


def find_end(path: Path) -> Ending:
    """Read a segment to its last whole record. Raises Corrupt if the file does not begin as a segment; OSError."""
    reader = SegmentReader(path)
    try:
        data = read_written(reader.fd)
    finally:
        reader.close()
    good, used, end, received, events = reader.base, PREFIX.size, reader.base, 0.0, 0
    for at, header in find_records(data, PREFIX.size, reader.salt, reader.base):
        if at == used and header.offset == good:
            good, used = header.end, at + header.size
        end, received, events = header.end, header.received_us / 1e6 or received, events + header.events
    return Ending(end, good, used, received, events, used < len(data))


def read_written(fd: int, start: int = 0) -> bytes:
    """Read a segment from byte `start` on, without the zeros that follow its records. No record ends in a zero. Raises
    OSError."""
    end = os.fstat(fd).st_size
    while end - start >= len(ZEROS) and os.pread(fd, len(ZEROS), end - len(ZEROS)) == ZEROS:
        end -= len(ZEROS)  # a start after a crash finds megabytes of room that nobody has used
    return os.pread(fd, end - start, start).rstrip(b"\0")


def read_stored(path: Path) -> Iterator[StoredRecord]:
    """Yield the whole records of a segment as they are stored. Passes over damage. Raises OSError, Unsupported."""
    try:
        reader = SegmentReader(path)
    except Corrupt:
        return
    with closing(reader):
        data = read_written(reader.fd)
    for at, header in find_records(data, PREFIX.size, reader.salt, reader.base):
        body = at + HEADER.size + header.meta_bytes
        parts = data[at + HEADER.size : body], data[body : at + header.size]
        yield StoredRecord(header.offset, header.events, header.received_us, *parts)


def count_readable_events(path: Path) -> int:
    """Count the events in good records of a segment. Raises OSError."""
    try:
        reader = SegmentReader(path)
    except Corrupt:
        return 0
    with closing(reader):
        data = read_written(reader.fd)
    found = find_records(data, PREFIX.size, reader.salt, reader.base)
    return sum(header.events for at, header in found if is_readable(data, at, header))


def is_blank(path: Path) -> bool:
    """Return whether a segment without a readable prefix holds nothing else either."""
    with path.open("rb") as file:
        file.seek(PREFIX.size)
        return not any(file.read(HEADER.size))
