"""Blocks as rows of a segment's table.

The checksum is made by the process that appends, and checked by whoever reads. It covers the number of events, meta and
body. Offset and time are not in it: the database gives them.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from relay.api import Block
from relay.journal import Compressor, compute_crc, decode_parts, encode_meta, is_form
from relay.postgres.connection import PostgresConnection
from relay.postgres.error import OtherCluster

LOST: Final = Block((), 0.0, (), (), (), b"")
LOCK_MS: Final = 5000
"""Milliseconds that an append waits for the lock of the partition. An older append may wait for a standby meanwhile."""
READ_BYTES: Final = 256 << 10
"""Stored bytes of a read. They are about a MiB once they are decompressed."""
ROW_BYTES: Final = 120
"""Bytes of a row beside meta and body, with its place in the index."""
PIECE_BYTES: Final = 1996
"""Bytes of a piece into which the server divides a long value."""
PIECE_TAKES: Final = 2080
"""Bytes that such a piece takes, with its place in the index."""
OTHER_SEGMENT: Final = "RL002"
"""The SQLSTATE that `schema.sql` raises when another segment is the newest."""
KNOWN_ID: Final = "RL003"
"""The SQLSTATE that `schema.sql` raises when another process has noted an id meanwhile."""
_OWN: Final = "WHERE coalesce(%s = (SELECT id FROM $.cluster), true)"
"""Has the server append nothing to the tables of another cluster, which may have taken the place of the own ones."""
_APPEND: Final = f"SELECT * FROM $.append(%s, %s, %s, %s, %b, %b, %s, %s) {_OWN}"  # noqa: S608
_APPEND_NEW: Final = f"""
    SELECT * FROM $.append_new(%s, %s, %s, %s, %b, %b, %s, %s, %s::text[], %s::bytea[], %s::bigint[], %s::bigint[])
    {_OWN}
"""  # noqa: S608
_COLUMNS: Final = "base, events, received, meta, body, crc"
_READ: Final = """
    SELECT {columns} FROM (
        SELECT *, sum(octet_length(meta) + octet_length(body)) OVER (ORDER BY base) AS total FROM (
            SELECT * FROM $.{name}
            WHERE base >= coalesce((SELECT max(base) FROM $.{name} WHERE base <= %(start)s), 0) AND base < %(stop)s
                AND base + events > %(start)s
            ORDER BY base LIMIT 1000
        ) AS first
    ) AS counted
    WHERE total - octet_length(meta) - octet_length(body) < %(size)s ORDER BY base
"""
_FIND_RECEIVED: Final = """
    SELECT received FROM $.{name} WHERE base + events > %(offset)s AND base >=
        coalesce((SELECT max(base) FROM $.{name} WHERE base <= %(offset)s), 0) ORDER BY base LIMIT 1
"""


class BlockRow(NamedTuple):
    """A row of a segment's table."""

    base: int
    events: int
    received_us: int
    meta: bytes
    body: bytes
    crc: int

    @property
    def stored(self) -> int:
        """About the bytes that the row takes."""
        pieces = sum(-(-len(value) // PIECE_BYTES) for value in (self.meta, self.body) if len(value) > PIECE_BYTES)
        return ROW_BYTES + pieces * PIECE_TAKES if pieces else ROW_BYTES + len(self.meta) + len(self.body)

    @property
    def is_compressed(self) -> bool:
        """Whether the events are compressed."""
        return is_form(self.meta)

    def decode(self) -> Block | None:
        """Decode the events; return None if the row is damaged. Raises Unsupported.

        A row without a body stands for events that are lost. It comes back as a block without events.
        """
        if self.events < 1 or self.crc != compute_crc(self.meta, self.body, self.events):
            return None
        if not self.body:
            return LOST
        return decode_parts(self.meta, self.body, self.base, self.events, self.received_us)


def encode_block(block: Block, compressor: Compressor | None) -> BlockRow:
    """Encode a block as a row. Without `compressor` the events are stored plain."""
    meta, body = encode_meta(block), block.body
    if compressor is not None:
        meta, body = compressor.compress(meta, body, len(block))
    base, received_us = block.offsets[0], round(block.received * 1e6)
    return BlockRow(base, len(block), received_us, meta, body, compute_crc(meta, body, len(block)))


def append_row(
    db: PostgresConnection, partition: int, newest: int, lowest: int, row: BlockRow, ids: Sequence[Sequence[Any]] = ()
) -> tuple[int, int]:
    """Append a row to the newest segment of a partition, at offset `lowest` or later; return its offset and its time.

    `ids`: the ids to note, as arrays. Raises psycopg.Error, with a code: OTHER_SEGMENT or KNOWN_ID.
    """
    values = [partition, newest, lowest, row.events, row.meta, row.body, row.crc, LOCK_MS, *ids, db.cluster]
    appended = db.run(_APPEND_NEW if ids else _APPEND, values).fetchone()
    if appended is None:
        raise OtherCluster(db.schema, db.read_cluster(), db.cluster)
    db.note_commit()
    return int(appended[0]), int(appended[1])


def read_rows(db: PostgresConnection, name: str, start: int, stop: int, size: int = READ_BYTES) -> Sequence[BlockRow]:
    """Read the rows of a segment from the one with offset `start` on, below `stop`; about `size` bytes, one row at
    least. Raises psycopg.Error, UndefinedTable if the segment's table is gone."""
    found = db.run(_READ.format(columns=_COLUMNS, name=name), {"start": start, "stop": stop, "size": size}, binary=True)
    return [BlockRow(*row) for row in found]


def read_row(db: PostgresConnection, name: str, base: int) -> BlockRow | None:
    """Read the row with this offset; None without any. Raises psycopg.Error."""
    row = db.run(f"SELECT {_COLUMNS} FROM $.{name} WHERE base = %s", [base], binary=True).fetchone()  # noqa: S608
    return None if row is None else BlockRow(*row)


def insert_row(db: PostgresConnection, name: str, row: BlockRow) -> None:
    """Insert a row as it is. Raises psycopg.Error."""
    db.run(f"INSERT INTO $.{name} ({_COLUMNS}) VALUES (%s, %s, %s, %b, %b, %s)", row)  # noqa: S608


def copy_rows(db: PostgresConnection, name: str, other: str, but: Sequence[int]) -> None:
    """Copy the rows of a segment's table into another table, but not those with these offsets. Raises psycopg.Error."""
    columns = f"INSERT INTO $.{other} ({_COLUMNS}) SELECT {_COLUMNS} FROM $.{name}"  # noqa: S608
    db.run(f"{columns} WHERE base <> ALL(%s::bigint[])", [[*but]])


def find_received(db: PostgresConnection, name: str, offset: int) -> int | None:
    """Find when the event at this offset, or the next event of the segment, was received; None without any."""
    row = db.run(_FIND_RECEIVED.format(name=name), {"offset": offset}).fetchone()
    return None if row is None else int(row[0])


def find_base(db: PostgresConnection, name: str, received_us: int) -> int | None:
    """Find the offset of the first event of a segment received at this time or later; None without any."""
    row = db.run(f"SELECT min(base) FROM $.{name} WHERE received >= %s", [received_us]).fetchone()  # noqa: S608
    return None if row is None or row[0] is None else int(row[0])
