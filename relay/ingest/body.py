"""Reads a request's body within its time, its size limits and the memory budget."""

import asyncio
import re
import zlib
from contextlib import AbstractContextManager
from types import ModuleType, TracebackType
from typing import Any, Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from relay.config import IngestSettings
from relay.ingest.body_memory import BodyMemory
from relay.ingest.problem import Problem, make_busy
from relay.threads import UNPACKING

fast_zlib: ModuleType
try:
    from isal import isal_zlib as fast_zlib
except ImportError:  # half as fast, the same format
    fast_zlib = zlib

THREAD_BYTES: Final = 64 << 10
"""A thread unpacks compressed bodies beyond this size."""
CHUNK_BYTES: Final = 4 << 10
"""Compressed bytes passed to a decompressor at a time. The rest of a chunk behind a member is copied."""
MEMBERS: Final = 10_000
"""Members of a compressed body, at most. Each takes some microseconds, however empty it is."""
GZIP: Final = 31
ZLIB: Final = 15
BARE: Final = -15
"""Window bits: deflate in its two frames, and without one."""
CODING: Final = re.compile("[a-z]{1,8}")
"""A coding that a message may repeat. Any other text may be a secret in the wrong header."""
CODINGS: Final = 3
RETRY_AFTER_S: Final = 1
WINDOW_BITS: Final = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}


class Body(AbstractContextManager["Body"]):
    """The body of one request. The end of the `with` returns its bytes to the memory budget."""

    def __init__(self, request: web.BaseRequest, settings: IngestSettings, body_memory: BodyMemory) -> None:
        self._request, self._settings, self._body_memory = request, settings, body_memory
        self._taken = 0

    async def read(self) -> bytes:
        """Read and decompress the body. Raises Problem: 408, 411, 413, 415, 400 (broken gzip), 503."""
        declared, headers = self._request.content_length, self._request.headers
        if declared is None:
            if "Transfer-Encoding" not in headers:
                reason = "a POST needs a Content-Length, also of 0, or Transfer-Encoding: chunked"
                raise Problem(411, reason, Connection="close")
        elif declared > self._settings.max_body:
            raise self._too_large()
        given = headers.get("Content-Encoding")
        coding = parse_coding(given) if given else None
        content = self._request.content
        if content.is_eof():  # it came with the headers, as small bodies do: nothing to wait for
            raw = self._count_chunk(content.read_nowait())
        else:
            raw = await self._receive(content)
        return raw if coding is None or not raw else await self._unpack(raw, coding)

    async def _receive(self, content: StreamReader) -> bytes:
        chunks = []
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                # Send "100 Continue" to a sender that waits for it
                request = self._request
                if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                while chunk := await content.readany():
                    chunks.append(self._count_chunk(chunk))
        except TimeoutError:
            raise Problem(408, "the body did not arrive in time (ingest.read_timeout)", Connection="close") from None
        except (ConnectionError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and self._request.transport is not None:
                raise
            # nobody hears this answer, but it is in the log, and no mistake of ours
            raise Problem(408, "the sender broke off before its body was complete", Connection="close") from None
        except RequestPayloadError as error:
            raise Problem(400, str(error), Connection="close") from None
        return b"".join(chunks)

    def _count_chunk(self, chunk: bytes) -> bytes:
        self.reserve(len(chunk))
        if self._taken > self._settings.max_body:
            raise self._too_large()
        return chunk

    async def _unpack(self, raw: bytes, coding: str) -> bytes:
        limit, window_bits = self._settings.max_body, choose_window_bits(coding, raw)
        try:
            if len(raw) > THREAD_BYTES:
                unpacked = await UNPACKING.run(decompress, raw, window_bits, limit)
            else:
                unpacked = decompress(raw, window_bits, limit)
        except (zlib.error, fast_zlib.error, EOFError) as error:
            raise Problem(400, f"the compressed body is broken: {error}") from None
        except OverflowError:
            raise self._too_large() from None
        self.reserve(len(unpacked))
        return unpacked

    def reserve(self, size: int) -> None:
        """Reserve bytes of the memory budget. Raises Problem: 503, or 413 if the budget can never hold them."""
        body_memory = self._body_memory
        used = body_memory.used + size
        if used > body_memory.limit:
            if self._taken + size > body_memory.limit:
                raise Problem(413, "the body takes more memory than relay has for all bodies (ingest.max_in_flight)")
            raise make_busy("too many request bodies at a time (ingest.max_in_flight)", RETRY_AFTER_S)
        body_memory.used = used
        self._taken += size

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._settings.max_body} bytes (ingest.max_body)")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._body_memory.used -= self._taken


def parse_coding(header: str) -> str | None:
    """Return the only coding of a Content-Encoding header, None without any. Raises Problem (415)."""
    codings = [one for one in map(str.strip, header.lower().split(",")) if one not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in WINDOW_BITS:
        named = ", ".join(one if CODING.fullmatch(one) else "…" for one in codings[:CODINGS])
        raise Problem(415, f"Content-Encoding {named!r} is not supported; send gzip, deflate or none")
    return codings[0]


def choose_window_bits(coding: str, raw: bytes) -> int:
    """Return zlib's window bits for this coding. Some senders leave out the frame of deflate."""
    framed = raw[0] & 0x0F == zlib.DEFLATED and int.from_bytes(raw[:2], "big") % 31 == 0  # RFC 1950, 2.2
    return BARE if coding == "deflate" and not framed else WINDOW_BITS[coding]


def decompress(raw: bytes, window_bits: int, limit: int) -> bytes:
    """Unpack a body of one or more members. Raises OverflowError beyond `limit` bytes, zlib.error, EOFError."""
    parts: list[bytes] = []
    view, at, room, members = memoryview(raw), 0, limit, 0
    member: Any = None
    while at < len(raw):
        if member is None:
            if window_bits == GZIP and raw[at] == 0 and not raw[at:].strip(b"\0"):
                break  # padding, which gzip(1) passes over as well
            members += 1
            if members > MEMBERS:
                raise zlib.error(f"it has more than {MEMBERS} members")
            member = fast_zlib.decompressobj(wbits=window_bits)
        chunk = view[at : at + CHUNK_BYTES]
        part = member.decompress(chunk, room + 1)
        room -= len(part)
        if room < 0:
            raise OverflowError
        parts.append(part)
        at += len(chunk) - len(member.unused_data)
        if member.eof:
            member = None
    if member is not None:
        raise EOFError("it ends too early")
    return b"".join(parts)
