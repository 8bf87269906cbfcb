"""The compressed form of a record: one zstd frame in the place of meta and body. Pure.

    meta     form bytes (4), form: JSON, {"needs": VERSION, "zstd": [bytes of the plain meta, bytes of the plain body]}
    body     the frame of the plain meta and the plain body, line breaks

The form has the place of the table of kinds, and is an object instead of a list. So a relay that expects the table
fails on the record, and does not take the record for damage. Every later form is such an object as well: `needs` is the
first version that reads it. Line breaks are there because no record may end in a zero, and because an event takes
SMALLEST bytes at least: so a start knows how many events may have been in bytes that are lost.
"""

import re
from typing import Any, Final

import orjson

from relay.api import load_zstd
from relay.store import Unavailable

VERSION: Final = b"0.1.0"
"""The first version of relay that reads this form."""
FORM_START: Final = b'{"needs":"'
"""The first bytes of a form."""
LEVEL: Final = 1
LEAST_BYTES: Final = 4 << 10
"""A smaller record stays plain: compression would save little for each event, and cost much."""
MOST_BYTES: Final = 64 << 20
"""A larger record stays plain, so that nobody has to decompress more than this at a time."""
SMALLEST: Final = 10
"""Bytes that an event takes in a segment at least. In a plain record, these are two numbers of four bytes, and `{}`."""
BREAK: Final = b"\n"
TRACES: Final = re.compile(rb'\x28\xb5\x2f\xfd|\{"needs":"[0-9.]+","zstd":\[')
"""The first bytes of a frame, or of a form."""


class Unsupported(Unavailable):
    """Raised when a record or a segment needs another version of relay, or a package that is not installed."""


class Compressor:
    """Compresses records, one at a time. Its memory is used again for each record."""

    def __init__(self) -> None:
        """Raises ValueError if zstd is not installed."""
        self._zstd = load_zstd().ZstdCompressor(LEVEL)

    def compress(self, meta: bytes, body: bytes, events: int) -> tuple[bytes, bytes]:
        """Return meta and body of so many events in the compressed form, or as they are if the record is too small or
        too large, or does not shrink."""
        size = len(meta) + len(body)
        if not LEAST_BYTES <= size <= MOST_BYTES:
            return meta, body
        self._zstd.set_pledged_input_size(size)
        frame = self._zstd.compress(meta + body, self._zstd.FLUSH_FRAME)
        form = b'%b%b","zstd":[%d,%d]}' % (FORM_START, VERSION, len(meta), len(body))
        breaks = BREAK * max(1, SMALLEST * events - len(frame))
        packed = len(form).to_bytes(4, "little") + form, frame + breaks
        return packed if sum(map(len, packed)) < size else (meta, body)


def decompress(form: bytes, body: bytes) -> tuple[bytes, int] | None:
    """Return the plain meta and body of a compressed record in one piece, and the bytes of the meta.

    Returns None if the record is damaged. Raises Unsupported.
    """
    sizes = _read_form(form)
    if sizes is None:
        return None
    match _decompress_frame(body, sum(sizes)):
        case plain, rest if len(plain) == sum(sizes) and rest and not rest.strip(BREAK):
            return plain, sizes[0]
    return None


def holds_compressed(data: bytes) -> bool:
    """Return whether damaged data holds the beginning of a compressed record."""
    return TRACES.search(data) is not None


def _decompress_frame(data: bytes, most: int) -> tuple[bytes, bytes] | None:
    """Decompress the frame at the start of `data`, up to `most` bytes; return its content and what follows the frame.

    Returns None if the frame is damaged, cut off, or larger. Raises Unsupported if zstd is not installed.
    """
    try:
        zstd = load_zstd()
    except ValueError as error:
        raise Unsupported(f"compressed events cannot be read: {error}") from None
    frame = zstd.ZstdDecompressor()
    try:
        plain = frame.decompress(data, max_length=most + 1)
    except zstd.ZstdError:
        return None
    return (plain, frame.unused_data) if frame.eof else None


def _read_form(form: bytes) -> tuple[int, int] | None:
    """Return the bytes of meta and body that a form tells; None if they cannot be right. Raises Unsupported."""
    try:
        found: Any = orjson.loads(form)
    except orjson.JSONDecodeError:
        return None
    match found:
        case {"needs": str(version), **rest} if rest.keys() != {"zstd"}:
            raise Unsupported(f"relay {version} or later is needed to read the events")
        case {"zstd": [int(meta), int(body)]} if meta > 0 and body > 0 and meta + body <= MOST_BYTES:
            return meta, body
    return None
