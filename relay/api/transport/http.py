"""One HTTP request of a connector or an alert; whatever goes wrong becomes an outcome."""

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Final, NamedTuple, TypedDict
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from relay.api.deadline import time_left
from relay.api.outcome import Retry
from relay.api.transport.answer import Answered, Answers, check
from relay.api.transport.connection import HEADERS, LINE_BYTES, Connections
from relay.api.transport.framing_headers import check_headers
from relay.api.transport.outage import describe_failure
from relay.api.transport.proxy import Via, make_proxy_finder
from relay.api.transport.resolver import Resolver, RunBlocking
from relay.api.transport.route import WaySettings, make_context

LARGE_BYTES: Final = 1 << 20
"""aiohttp wants larger bodies as a file: it writes them in pieces."""
ANSWER_BYTES: Final = 64 << 10
ANSWER_SECONDS: Final = 1.0
"""What of an answer is read, if nobody asks for more."""
READING_SHARE: Final = 0.75
"""Of the time that a delivery has left: what was answered 2xx is not to be sent again for a slow body."""
GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
REACH_SECONDS: Final = 5.0


class ConnectionSettings(TypedDict):
    """The TLS and the proxies on the way to a destination."""

    context: ssl.SSLContext | None
    proxies: Callable[[URL], Via | None] | None


def make_session(
    connections: int, timeout: float, run_blocking: RunBlocking, settings: object = None
) -> aiohttp.ClientSession:
    """Make a session with pooled connections and no cookies, with the TLS and proxy of `WaySettings`. Bodies of answers
    stay as they arrive."""
    way = make_way(settings)
    return aiohttp.ClientSession(
        connector=Connections(limit=connections, resolver=Resolver(run_blocking), **way),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={"User-Agent": "relay", "Accept-Encoding": "identity"},
        auto_decompress=False,
        max_line_size=LINE_BYTES,
        max_field_size=LINE_BYTES,
        max_headers=HEADERS,
    )


def make_way(settings: object) -> ConnectionSettings:
    """Make the TLS and proxies for a destination. Raises PemError; LookupError for an unusable secret."""
    if not isinstance(settings, WaySettings):
        return {"context": None, "proxies": None}
    return {"context": make_context(settings), "proxies": make_proxy_finder(settings)}


class AnswerLimits(NamedTuple):
    """How many bytes of an answer are read, and for how many seconds."""

    size: int = ANSWER_BYTES
    seconds: float = ANSWER_SECONDS


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    answers: Answers,
    limits: AnswerLimits,
) -> Answered:
    """Send a request and return a 2xx answer. Raises Retry, Reject, Unauthorized: see `check`.

    Headers that cannot be set raise ValueError.

    Reasons hold no secret: of the URL they name the host alone. Redirects are not followed. The URL is sent as it is.
    """
    check_headers(headers)
    data = body if len(body) <= LARGE_BYTES else BytesIO(body)
    target = URL(url, encoded=True)
    try:
        async with session.request(method, target, data=data, headers=headers, allow_redirects=False) as answer:
            said, complete = await _read_body(answer, limits, session.timeout.total)
            if said and "Content-Encoding" in answer.headers:
                # Undo gzip or deflate, up to the size; text in another coding is dropped
                decoder = zlib.decompressobj(GZIP_OR_ZLIB)
                try:
                    said, whole = decoder.decompress(said, limits.size), decoder.eof
                except zlib.error:
                    said, whole = b"", False
                complete = complete and whole
            check(answer, said, answers)
            return Answered(answer.headers, said, complete)
    except (aiohttp.ClientError, OSError) as error:
        parts = urlsplit(url)
        raise Retry(
            describe_failure(error, f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname))
        ) from None


async def _read_body(answer: aiohttp.ClientResponse, limits: AnswerLimits, timeout: float | None) -> tuple[bytes, bool]:
    """Read an answer within the limits; return the bytes, and whether they are complete. After a complete answer the
    connection can be used again."""
    content = answer.content
    said = bytearray(content.read_nowait(limits.size) if answer.ok and content.is_eof() else b"")
    if content.at_eof():  # nearly always: no timeout is worth it then
        return bytes(said), True
    left = min(time_left(), timeout or ANSWER_SECONDS)
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(min(limits.seconds, left * READING_SHARE)):
            while len(said) <= limits.size:
                if not (part := await content.read(limits.size + 1 - len(said))):
                    return bytes(said), True
                said += part
    return bytes(said[: limits.size]), False


async def reach(url: str, run_blocking: RunBlocking, settings: object = None) -> str:
    """Connect to the host of a URL or to its proxy, with TLS for https. Send nothing; return what was reached. Raises
    Retry."""
    way = make_way(settings)
    via = way["proxies"](URL(url)) if way["proxies"] else None
    parts = urlsplit(str(via.url) if via else url)
    encrypted = parts.scheme == "https"
    port = parts.port or (443 if encrypted else 80)
    place = f"{'the proxy ' if via else ''}{parts.hostname}:{port}"
    try:
        async with asyncio.timeout(REACH_SECONDS):
            context = (way["context"] or await run_blocking(ssl.create_default_context)) if encrypted else None
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    except TimeoutError:
        raise Retry(f"{place} did not answer within {REACH_SECONDS:g} s") from None
    except OSError as error:
        raise Retry(describe_failure(error, place)) from None
    writer.transport.abort()
    good = ", with a good certificate" if encrypted else ""
    return f"{place} takes connections{good}; credentials are not tested"
