"""One HTTP request of a connector; whatever goes wrong becomes an outcome."""

import asyncio
from collections.abc import Mapping
from io import BytesIO
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from relay.api.outcome import Answers, Retry, check

LARGE_BYTES: Final = 1 << 20
"""aiohttp wants larger bodies as a file: it writes them in pieces."""
ANSWER_BYTES: Final = 64 << 10
ANSWER_SECONDS: Final = 1.0
"""What of an answer is read at most; the rest is not worth the wait."""


def make_session(connections: int, timeout: float) -> aiohttp.ClientSession:
    """A session with pooled connections, no cookies, no environment proxies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={"User-Agent": "relay"},
    )


async def send(
    session: aiohttp.ClientSession, method: str, url: str, body: bytes, headers: Mapping[str, str], answers: Answers
) -> Mapping[str, str]:
    """Send a request and return the headers of a good answer. Raises Retry, Reject, Unauthorized: see `check`.

    Reasons hold no secret: of the URL they name the host alone. Redirects are not followed.
    """
    data = body if len(body) <= LARGE_BYTES else BytesIO(body)
    try:
        async with session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
            complete = answer.ok and answer.content.is_eof()
            check(answer, b"" if complete else await _read_rest(answer, session.timeout.total), answers)
            return answer.headers
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


def _reason(url: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"{urlsplit(url).netloc} did not answer in time"
    detail = getattr(error, "strerror", None)
    return f"{urlsplit(url).netloc}: {type(error).__name__}" + (f" ({detail})" if detail else "")
