"""The answer to a request whose events are on disk: head and body as one prepared piece.

aiohttp's own Response takes a third or more of what aiohttp costs for a small request: for its multidict of headers,
and for its steps before the write. Of an answer, aiohttp's server asks only what `PreparedAnswer` has.

Failure: a sender that has gone makes the write raise ConnectionError, which aiohttp takes as the end of the connection.
A sender that does not read its answers is awaited. A connection that is to close, or of HTTP/1.0, gets a Response.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http.client import responses
from typing import Final, cast

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from relay.listen import SERVER

JSON: Final = "application/json"
HEADS: Final = 8
"""Prepared heads that are kept: one for each status and second."""


class PreparedAnswer:
    """A JSON answer over HTTP/1.1, on a connection that stays open. aiohttp calls `prepare`, then `write_eof`."""

    __slots__ = ("_answer", "_writer", "status")
    keep_alive: Final = True

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._answer = b"%b%d\r\n\r\n%b" % (_make_head(status, int(time.time())), len(body), body)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Note where to write."""
        self._writer: AbstractStreamWriter = request.writer

    async def write_eof(self) -> None:
        """Send the answer, and wait while the sender reads none. Raises ConnectionError."""
        await self._writer.write_eof(self._answer)


def make_answer(request: web.BaseRequest, status: int, body: bytes) -> web.StreamResponse:
    """Make the answer to this request."""
    if request.keep_alive and request.version == HttpVersion11:
        return cast("web.StreamResponse", PreparedAnswer(status, body))
    return web.Response(status=status, body=body, content_type=JSON)


@lru_cache(HEADS)
def _make_head(status: int, second: int) -> bytes:
    """Return the head up to the length of the body, at this Unix time. The headers are those of a Response."""
    head = f"HTTP/1.1 {status} {responses.get(status, '')}\r\nContent-Type: {JSON}\r\n"
    date = formatdate(second, usegmt=True)
    return f"{head}Date: {date}\r\nServer: {SERVER}\r\nContent-Length: ".encode()
