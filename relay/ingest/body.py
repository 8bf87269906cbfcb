"""Reads a request's body: in time, within the limit before and after decompression, within the memory budget."""

import asyncio
import zlib
from contextlib import AbstractContextManager
from types import ModuleType, TracebackType
from typing import Any, Final

from aiohttp import web

from relay.config import IngestSettings
from relay.ingest.pressure import Pressure
from relay.ingest.problem import Problem
from relay.threads import UNPACKING

fast_zlib: ModuleType
try:
    from isal import isal_zlib as fast_zlib
except ImportError:  # half as fast, the same format
    fast_zlib = zlib

THREAD_BYTES: Final = 64 << 10
"""Compressed bodies beyond this size are unpacked in a thread."""
CHUNK_BYTES: Final = 4 << 10
"""Compressed bytes that are given to one decompressor at a time: what a member leaves of them is copied."""
MEMBERS: Final = 10_000
"""Of a compressed body, at most. Each takes some microseconds, however empty it is."""
WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Body(AbstractContextManager["Body"]):
    """One request's body; what it takes of the memory budget is given back at the end of the `with`."""

    def __init__(self, request: web.BaseRequest, settings: IngestSettings, pressure: Pressure) -> None:
        self._request, self._settings, self._pressure = request, settings, pressure
        self._taken = 0

    async def read(self) -> bytes:
        """The body, decompressed. Raises Problem: 408, 413, 415, 400 (broken gzip), 503."""
        declared = self._request.content_length
        if declared is not None and declared > self._settings.max_body:
            raise self._too_large()
        encoding = self._request.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity" and encoding not in WINDOW_BITS:
            raise Problem(415, f"Content-Encoding {encoding!r} is not supported; send gzip, deflate or none")
        raw = await self._receive()
        return raw if encoding == "identity" or not raw else await self._unpack(raw, WINDOW_BITS[encoding])

    async def _receive(self) -> bytes:
        content = self._request.content
        if content.is_eof():  # it came with the headers, as small bodies do: nothing to wait for
            return self._taken_in(content.read_nowait())
        chunks = []
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                while chunk := await content.readany():
                    chunks.append(self._taken_in(chunk))
        except TimeoutError:
            raise Problem(408, "the body did not arrive in time (ingest.read_timeout)", Connection="close") from None
        except ConnectionError:  # nobody hears this answer, but it is in the log, and no mistake of ours
            raise Problem(408, "the sender broke off before its body was complete", Connection="close") from None
        return b"".join(chunks)

    def _taken_in(self, chunk: bytes) -> bytes:
        self._take(len(chunk))
        if self._taken > self._settings.max_body:
            raise self._too_large()
        return chunk

    async def _unpack(self, raw: bytes, window_bits: int) -> bytes:
        limit = self._settings.max_body
        try:
            if len(raw) > THREAD_BYTES:
                unpacked = await UNPACKING.run(decompress, raw, window_bits, limit)
            else:
                unpacked = decompress(raw, window_bits, limit)
        except (zlib.error, fast_zlib.error, EOFError) as error:
            raise Problem(400, f"the compressed body is broken: {error}") from None
        except OverflowError:
            raise self._too_large() from None
        self._take(len(unpacked))
        return unpacked

    def hold(self, size: int) -> None:
        """Book bytes for what was made of the body. Raises Problem (503, or 413 if there is never room for it)."""
        self._take(size)

    def _take(self, size: int) -> None:
        if self._taken + size > self._pressure.limit:
            raise Problem(413, "the body takes more memory than relay has for all bodies (ingest.max_in_flight)")
        self._pressure.take(size)
        self._taken += size

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._settings.max_body} bytes (ingest.max_body)")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pressure.give(self._taken)


def decompress(raw: bytes, window_bits: int, limit: int) -> bytes:
    """Unpack a body of one or more members. Raises OverflowError beyond `limit` bytes, zlib.error, EOFError."""
    parts: list[bytes] = []
    view, at, room, members = memoryview(raw), 0, limit, 0
    member: Any = None
    while at < len(raw):
        if member is None:
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
