"""One commit group as bytes: what a block looks like on disk. Pure.

    header   crc32, events, meta bytes, body bytes, first offset, received (microseconds), little-endian
    meta     table bytes, table (JSON: the kinds), index and ends (4 bytes an event each)
    body     the events' own bytes, joined by commas

The CRC covers all that follows it and is seeded with the salt of the segment, so neither stale bytes nor an event
that imitates a record can pass for one. A header that says 0 events is the end. A record without a body stands for
events that a repair could not save.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from operator import add
from typing import Any, Final

import orjson

from relay.api import Block, Kind

try:
    from isal.isal_zlib import crc32
except ImportError:  # 13 times slower, the same polynomial
    from zlib import crc32

HEADER: Final = struct.Struct("<IIIIQQ")
TABLE_BYTES: Final = 4
"""Behind the header, before the table of the kinds: how long that is."""
NO_KINDS: Final = b"[]"
TABLE_START: Final = b'[["'
"""How the table of the kinds begins: the sign by which a record is found again behind damage."""
PER_EVENT: Final = 9
"""Bytes beside the body of an event: its index, its end, a comma."""


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed part of a record, and so where the next one starts."""

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
        """Whether the record only says that its events are gone."""
        return self.body_bytes == 0


def header_at(data: bytes | memoryview, at: int) -> Header | None:
    """The header at this place; None if it is cut off or marks the end."""
    if len(data) - at < HEADER.size:
        return None
    header = Header(*HEADER.unpack_from(data, at))
    return header if header.events else None


class _Table(dict[Kind, int]):
    """Kinds in the order of their first use."""

    def __missing__(self, kind: Kind) -> int:
        self[kind] = number = len(self)
        return number


def make_block(offset: int, received_us: int, kinds: Sequence[Kind], bodies: Sequence[Any]) -> Block:
    """Join the events of one commit group into the block that is written and then read by the lanes."""
    table = _Table()
    index = array("I", [table[kind] for kind in kinds])
    ends = array("I", map(add, accumulate(map(len, bodies)), count()))
    offsets = range(offset, offset + len(bodies))
    return Block(offsets, received_us / 1e6, tuple(table), index, ends, b",".join(bodies))


def size_of(kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
    """Bytes of the record that these events make, give or take one."""
    table = _table_of([*dict.fromkeys(kinds)])
    return HEADER.size + TABLE_BYTES + len(table) + PER_EVENT * len(bodies) + sum(map(len, bodies))


def _table_of(kinds: Sequence[Kind]) -> bytes:
    return orjson.dumps([[kind.source, kind.type, kind.id_field, kind.time_field] for kind in kinds])


def meta_of(block: Block) -> bytes:
    """The kinds of a block and where its events lie."""
    table = _table_of(block.kinds)
    return b"".join((len(table).to_bytes(4, "little"), table, array("I", block.index), array("I", block.ends)))


def header_of(block: Block, meta: bytes, received_us: int, salt: int) -> bytes:
    """The header that makes meta and body a record of the segment with this salt."""
    return _header((len(block), len(meta), len(block.body), block.offsets[0], received_us), meta, block.body, salt)


def record_of(block: Block, salt: int) -> bytes:
    """A block as a record of the segment with this salt."""
    meta = meta_of(block)
    return header_of(block, meta, round(block.received * 1e6), salt) + meta + block.body


def lost_record(start: int, stop: int, salt: int) -> bytes:
    """A record that says: the events from offset `start` up to `stop` are gone. It has no kinds and no body."""
    meta = len(NO_KINDS).to_bytes(4, "little") + NO_KINDS
    return _header((stop - start, len(meta), 0, start, 0), meta, b"", salt) + meta


def _header(fixed: tuple[int, int, int, int, int], meta: bytes, body: bytes, salt: int) -> bytes:
    crc = crc32(body, crc32(meta, crc32(HEADER.pack(0, *fixed)[4:], salt)))
    return HEADER.pack(crc, *fixed)


def is_whole(data: bytes | memoryview, at: int, header: Header, salt: int) -> bool:
    """Whether the record whose header is at this place is all there, and its checksum is right."""
    end = at + header.size
    return end <= len(data) and crc32(memoryview(data)[at + 4 : end], salt) == header.crc


def whole_records(data: bytes, at: int, salt: int, offset: int) -> Iterator[tuple[int, Header]]:
    """Every whole record from byte `at` on whose events come at `offset` or later: where it begins, and its header.

    Damage in between is passed over. Offsets ascend."""
    while at < len(data):
        header = header_at(data, at)
        if header is None or header.offset < offset or not is_whole(data, at, header, salt):
            at = _next_start(data, at + 1)
            continue
        yield at, header
        offset, at = header.end, at + header.size


def _next_start(data: bytes, at: int) -> int:
    """Where the next record may start; the end of the data if none does."""
    ahead = HEADER.size + TABLE_BYTES
    found = data.find(TABLE_START, at + ahead)
    return len(data) if found < 0 else found - ahead


def decode(data: bytes | memoryview, at: int, header: Header, salt: int) -> Block | None:
    """The block whose header is at this place; None if it is cut off or its checksum is wrong."""
    if not is_whole(data, at, header, salt):
        return None
    end = at + header.size
    if header.is_lost:
        return Block((), 0.0, (), (), (), b"")
    meta = at + HEADER.size
    table_end = meta + 4 + int.from_bytes(data[meta : meta + 4], "little")
    index_end = table_end + 4 * header.events
    body = meta + header.meta_bytes
    index, ends = array("I"), array("I")
    index.frombytes(data[table_end:index_end])
    ends.frombytes(data[index_end:body])
    kinds = tuple(Kind(*fields) for fields in orjson.loads(data[meta + 4 : table_end]))
    offsets = range(header.offset, header.offset + header.events)
    return Block(offsets, header.received_us / 1e6, kinds, index, ends, bytes(data[body:end]))
