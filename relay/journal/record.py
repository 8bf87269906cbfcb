"""One commit group as bytes: what a block looks like on disk. Pure.

    header   crc32, events, meta bytes, body bytes, first offset, received (microseconds), little-endian
    meta     table bytes, table (JSON: the kinds), index and ends (4 bytes an event each)
    body     the events' own bytes, joined by commas

A record may have meta and body in the form of `compression` instead.
The CRC covers all that follows it and is seeded with the salt of the segment, so neither stale bytes nor an event
that imitates a record can pass for one. A header that says 0 events is the end. A record without a body stands for
events that a repair could not save.
"""

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson
from msgspec import Struct

from relay.api import Block, Kind
from relay.journal.compression import FORM_START, Compressor, decompress

try:
    from isal.isal_zlib import crc32
except ImportError:  # 13 times slower, the same polynomial
    from zlib import crc32

HEADER: Final = struct.Struct("<IIIIQQ")
TABLE_BYTES: Final = 4
"""The length of the table of kinds, between the header and the table."""
NO_KINDS: Final = b"[]"
TABLE_START: Final = b'[["'
"""The first bytes of the table of kinds."""
STARTS: Final = re.compile(b"|".join(map(re.escape, (TABLE_START, FORM_START))))
"""The first bytes of a table or form. They help to find records behind damage."""
PER_EVENT: Final = 9
"""Bytes of an event beside its body: its index, its end, a comma."""


class Header(Struct, frozen=True):
    """The fixed part of a record, which tells where the next record starts."""

    crc: int
    events: int
    meta_bytes: int
    body_bytes: int
    offset: int
    received_us: int

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        return HEADER.size + self.meta_bytes + self.body_bytes

    @property
    def end(self) -> int:
        """The offset behind its last event."""
        return self.offset + self.events

    @property
    def is_lost(self) -> bool:
        """Whether the record stands for events that are lost."""
        return self.body_bytes == 0


class StoredRecord(NamedTuple):
    """A record as it is stored, plain or compressed, without what belongs to its place."""

    offset: int
    events: int
    received_us: int
    meta: bytes
    body: bytes
    """Empty: the events are lost."""

    @property
    def is_compressed(self) -> bool:
        """Whether meta and body are in the compressed form."""
        return is_form(self.meta)


def read_header(data: bytes | memoryview, at: int) -> Header | None:
    """Read the header at this place; return None if it is cut off or marks the end."""
    if len(data) - at < HEADER.size:
        return None
    header = Header(*HEADER.unpack_from(data, at))
    return header if header.events else None


def measure_record(kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
    """Return the bytes of the record of these events, give or take one."""
    table = _encode_table([*dict.fromkeys(kinds)])
    return HEADER.size + TABLE_BYTES + len(table) + PER_EVENT * len(bodies) + sum(map(len, bodies))


def _encode_table(kinds: Sequence[Kind]) -> bytes:
    return orjson.dumps([[kind.source, kind.type, kind.id_field, kind.time_field] for kind in kinds])


def encode_meta(block: Block) -> bytes:
    """Encode the kinds of a block and the places of its events."""
    table = _encode_table(block.kinds)
    return b"".join((len(table).to_bytes(4, "little"), table, array("I", block.index), array("I", block.ends)))


def encode_header(block: Block, meta: bytes, body: bytes, received_us: int, salt: int) -> bytes:
    """Encode the header of a block for this meta and body in a segment with this salt."""
    return _encode_fixed((len(block), len(meta), len(body), block.offsets[0], received_us), meta, body, salt)


def encode_record(block: Block, salt: int, compressor: Compressor | None = None) -> bytes:
    """Encode a block as a record of a segment with this salt. Without `compressor` the record is plain."""
    meta, body = encode_meta(block), block.body
    if compressor is not None:
        meta, body = compressor.compress(meta, body, len(block))
    return encode_header(block, meta, body, round(block.received * 1e6), salt) + meta + body


def encode_stored(record: StoredRecord, salt: int) -> bytes:
    """Encode a record, plain or compressed as it is stored, for a segment with this salt."""
    meta, body = record.meta, record.body
    fixed = (record.events, len(meta), len(body), record.offset, record.received_us)
    return _encode_fixed(fixed, meta, body, salt) + meta + body


def encode_lost_record(start: int, stop: int, salt: int) -> bytes:
    """Encode a record for lost events from offset `start` up to `stop`. It has no kinds and no body."""
    meta = len(NO_KINDS).to_bytes(4, "little") + NO_KINDS
    return encode_stored(StoredRecord(start, stop - start, 0, meta, b""), salt)


def _encode_fixed(fixed: tuple[int, int, int, int, int], meta: bytes, body: bytes, salt: int) -> bytes:
    crc = compute_crc(meta, body, crc32(HEADER.pack(0, *fixed)[4:], salt))
    return HEADER.pack(crc, *fixed)


def compute_crc(meta: bytes, body: bytes, seed: int) -> int:
    """Compute the CRC-32 of meta and body behind what `seed` stands for."""
    return crc32(body, crc32(meta, seed))


def is_whole(data: bytes | memoryview, at: int, header: Header, salt: int) -> bool:
    """Return whether the record with this header is complete and its checksum is right."""
    end = at + header.size
    return end <= len(data) and crc32(memoryview(data)[at + 4 : end], salt) == header.crc


def find_records(data: bytes, at: int, salt: int, offset: int) -> Iterator[tuple[int, Header]]:
    """Yield the place and header of every whole record from byte `at` and from `offset` on.

    Skips damage. Offsets ascend.
    """
    while at < len(data):
        header = read_header(data, at)
        if header is None or header.offset < offset or not is_whole(data, at, header, salt):
            # Go on where the next record may start, or at the end of the data
            ahead = HEADER.size + TABLE_BYTES
            found = STARTS.search(data, at + 1 + ahead)
            at = len(data) if found is None else found.start() - ahead
            continue
        yield at, header
        offset, at = header.end, at + header.size


def is_compressed(data: bytes | memoryview, at: int, header: Header) -> bool:
    """Return whether the record with this header has no plain meta and body."""
    return not header.is_lost and data[at + HEADER.size + TABLE_BYTES] == FORM_START[0]


def is_readable(data: bytes, at: int, header: Header) -> bool:
    """Return whether a whole record can be decoded. Decompresses a compressed record. Raises Unsupported."""
    return not is_compressed(data, at, header) or _decompress(data, at, header) is not None


def decode(data: bytes | memoryview, at: int, header: Header, salt: int) -> Block | None:
    """Decode the block of a header; return None if the block is cut off or damaged. Raises Unsupported."""
    if not is_whole(data, at, header, salt):
        return None
    if header.is_lost:
        return Block((), 0.0, (), (), (), b"")
    meta, end = at + HEADER.size, at + header.size
    body = meta + header.meta_bytes
    return decode_parts(data[meta:body], bytes(data[body:end]), header.offset, header.events, header.received_us)


def is_form(meta: bytes | memoryview) -> bool:
    """Return whether the meta of a block is the form of compressed events."""
    return meta[TABLE_BYTES] == FORM_START[0]


def decode_parts(meta: bytes | memoryview, body: bytes, offset: int, events: int, received_us: int) -> Block | None:
    """Decode a block from its whole meta and body, plain or compressed; return None if the block is damaged. Raises
    Unsupported."""
    if is_form(meta):
        found = decompress(bytes(meta[TABLE_BYTES:]), body)
        if found is None:
            return None
        plain, size = found
        meta, body = plain[:size], plain[size:]
    table_end = TABLE_BYTES + int.from_bytes(meta[:TABLE_BYTES], "little")
    index_end = table_end + 4 * events
    index, ends = array("I"), array("I")
    index.frombytes(meta[table_end:index_end])
    ends.frombytes(meta[index_end:])
    kinds = tuple(Kind(*fields) for fields in orjson.loads(meta[TABLE_BYTES:table_end]))
    return Block(range(offset, offset + events), received_us / 1e6, kinds, index, ends, body)


def _decompress(data: bytes | memoryview, at: int, header: Header) -> tuple[bytes, int] | None:
    """Return the plain meta and body of a compressed record, and the bytes of the meta; None if it is damaged."""
    form = at + HEADER.size + TABLE_BYTES
    body = at + HEADER.size + header.meta_bytes
    return decompress(bytes(data[form:body]), bytes(data[body : at + header.size]))
