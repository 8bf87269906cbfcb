"""What can become of a delivery. A closed vocabulary: raise one of these from `deliver`, or return one per event.

Returning None means that all were delivered. Any exception that is not of this vocabulary counts as the connector's
bug and is treated as `Retry`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import aiohttp  # a third of a second that `relay check` does not need

EXCERPT_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination has the event."""


DELIVERED: Final = Delivered()


class Retry(Exception):
    """Not now: try the same events again, `after` seconds from now at the earliest if that is given."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Reject(Exception):
    """Never: the destination refuses these events for what they are. The lane splits a refused batch until it holds
    the refused event alone, parks that one with `reason`, and delivers the rest."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unauthorized(Exception):
    """Not like this: credentials or address are wrong. The lane pauses and raises an alarm; the queue stays."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Outcome = Delivered | Retry | Reject | Unauthorized


def check(answer: "aiohttp.ClientResponse", body: bytes | None = None) -> None:
    """Turn an HTTP answer into an outcome: return for 2xx, raise for the rest.

    401, 403, 404 and redirects raise `Unauthorized` (a redirected POST loses its body: configure the final address);
    408, 425, 429, 5xx and unlisted codes raise `Retry` and honour Retry-After; other 4xx raise `Reject`. The reason has
    the first bytes of `body`, or of what has arrived of it.
    """
    status = answer.status
    if 200 <= status < 300 and not answer.history:
        return
    if answer.history:
        raise Unauthorized(f"redirected to {answer.url.with_query(None)}: configure the final address")
    said = f"HTTP {status}{_target(answer)}{_excerpt(_arrived(answer) if body is None else body)}"
    if status in (401, 403, 404) or 300 <= status < 400:
        raise Unauthorized(said)
    if 400 <= status < 500 and status not in (408, 425, 429):
        raise Reject(said)
    raise Retry(said, after=retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)))


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110 10.2.3: seconds or a date); None if there is none."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())


def _target(answer: "aiohttp.ClientResponse") -> str:
    """Where a redirect leads, without its query, which may hold a secret."""
    location = answer.headers.get("Location", "").partition("?")[0]
    return f" to {location}" if location and 300 <= answer.status < 400 else ""


def _arrived(answer: "aiohttp.ClientResponse") -> bytes:
    """The first bytes of the body, without waiting for them."""
    try:
        return answer.content.read_nowait(EXCERPT_BYTES)
    except Exception:  # whatever ails the connection, the status is the news
        return b""


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:EXCERPT_BYTES].decode("utf-8", "replace").split())
    return f": {text}" if text else ""
