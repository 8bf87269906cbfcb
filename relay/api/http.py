"""One HTTP request of a connector; whatever goes wrong becomes an outcome."""

import asyncio
import os
import socket
import ssl
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from relay.api.headers import check_headers
from relay.api.http_connection import HEADERS, LINE_BYTES, Connections
from relay.api.outcome import Answered, Answers, Retry, check
from relay.api.resolver import Resolver, RunBlocking

LARGE_BYTES: Final = 1 << 20
"""aiohttp wants larger bodies as a file: it writes them in pieces."""
ANSWER_BYTES: Final = 64 << 10
ANSWER_SECONDS: Final = 1.0
"""What of an answer is read at most; the rest is not worth the wait."""
GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
TOLD_CHARACTERS: Final = 200
"""What is told of an answer that is no HTTP."""

REACH_SECONDS: Final = 5.0


def make_session(connections: int, timeout: float, run_blocking: RunBlocking) -> aiohttp.ClientSession:
    """A session with pooled connections, no cookies, no environment proxies; bodies of answers stay as they come."""
    return aiohttp.ClientSession(
        connector=Connections(limit=connections, resolver=Resolver(run_blocking)),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={"User-Agent": "relay", "Accept-Encoding": "identity"},
        auto_decompress=False,
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        max_headers=HEADERS,
    )


async def send(
    session: aiohttp.ClientSession, method: str, url: str, body: bytes, headers: Mapping[str, str], answers: Answers
) -> Answered:
    """Send a request and return what a good answer said. Raises Retry, Reject, Unauthorized: see `check`.

    Headers that cannot be set raise ValueError.

    Reasons hold no secret: of the URL they name the host alone. Redirects are not followed. The URL is sent as it is.
    """
    check_headers(headers)
    data = body if len(body) <= LARGE_BYTES else BytesIO(body)
    target = URL(url, encoded=True)
    try:
        async with session.request(method, target, data=data, headers=headers, allow_redirects=False) as answer:
            came = answer.ok and answer.content.is_eof()  # nearly always: no timeout is worth it then
            content = answer.content
            said = content.read_nowait(ANSWER_BYTES) if came else await _read_rest(answer, session.timeout.total)
            if said and "Content-Encoding" in answer.headers:
                said = _decoded(said)
            check(answer, said, answers)
            return Answered(answer.headers, said or b"")
    except (aiohttp.ClientError, OSError) as error:
        raise Retry(_reason(url, error)) from None


async def _read_rest(answer: aiohttp.ClientResponse, timeout: float | None) -> bytes | None:
    """Read an answer to its end, for its connection to be used again and its reason known; None if it stalls.

    Long before the whole delivery counts as failed: what was answered 2xx is not to be sent again for a slow body."""
    try:
        async with asyncio.timeout(min(ANSWER_SECONDS, (timeout or ANSWER_SECONDS) / 4)):
            return await answer.content.readexactly(ANSWER_BYTES)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    except (aiohttp.ClientError, OSError):
        return None


def _decoded(said: bytes) -> bytes:
    """Undo gzip or deflate, up to ANSWER_BYTES; of another coding nothing can be told."""
    try:
        return zlib.decompressobj(GZIP_OR_ZLIB).decompress(said, ANSWER_BYTES)
    except zlib.error:
        return b""


def _reason(url: str, error: Exception) -> str:
    parts = urlsplit(url)
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    return _in_words(f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname), cause)


def _in_words(place: str, error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"{place} did not answer in time"
        case socket.gaierror():
            return f"{place}: there is no such host: {error.strerror}"
        case ssl.SSLError():
            return f"{place}: TLS: {getattr(error, 'verify_message', '') or error.reason or error}"
        case aiohttp.ServerDisconnectedError():
            return f"{place} closed the connection without an answer"
        case aiohttp.ClientResponseError():
            return f"{place}: its answer is no HTTP: {' '.join(error.message.split())[:TOLD_CHARACTERS]}"
        case OSError(errno=int(number)) if number > 0:
            return f"{place}: {os.strerror(number)}"
        case OSError():
            return f"{place}: {type(error).__name__}: {error}"
    return f"{place}: {type(error).__name__}"


async def reach(url: str, run_blocking: RunBlocking) -> str:
    """Connect to the host of a URL, with TLS if it says https, send nothing, and say what was reached. Raises Retry."""
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    port = parts.port or (443 if encrypted else 80)
    place = f"{parts.hostname}:{port}"
    try:
        async with asyncio.timeout(REACH_SECONDS):
            context = await run_blocking(ssl.create_default_context) if encrypted else None
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    except TimeoutError:
        raise Retry(f"{place} did not answer within {REACH_SECONDS:g} s") from None
    except OSError as error:
        raise Retry(_in_words(place, error)) from None
    writer.transport.abort()
    return f"{place} takes connections" + (", with a good certificate" if encrypted else "")
