"""What the answer of a destination over HTTP means: its status, its Retry-After and the first bytes of its body."""

from codecs import getincrementaldecoder
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from relay.api.outcome import Reject, Retry, Unauthorized
from relay.api.text import cut

if TYPE_CHECKING:
    import aiohttp  # a third of a second that `relay check` does not need

EXCERPT_BYTES: Final = 200
"""The bytes that an outcome keeps of a body."""
EARLIEST_RESET: Final = 1_000_000_000
"""Smaller numbers in `x-ratelimit-reset` are no Unix seconds."""
LONGEST_WAIT_S: Final = 365 * 86400.0
"""The longest wait that relay takes from a destination, in seconds. A lane waits less."""
_UTF8: Final = getincrementaldecoder("utf-8")


class Answered(NamedTuple):
    """What a destination said with a 2xx answer."""

    headers: Mapping[str, str]
    body: bytes
    """The bytes of the body within the limits of `post`: 64 KiB and 1 second by default."""
    complete: bool = True
    """Whether `body` is complete. If not, do not treat events as delivered that the missing rest may name."""


Answers = Mapping[str, Literal["deliver", "retry", "reject", "pause"]]
"""What a status, as a string such as "409", means; for the others the usual applies."""


def check(answer: "aiohttp.ClientResponse", body: bytes | None = None, answers: Answers = MappingProxyType({})) -> None:
    """Turn an HTTP answer into an outcome: return for 2xx, raise for other statuses.

    401, 403, 404 and redirects raise `Unauthorized`; a redirected POST loses its body, so configure the final address.
    408, 425, 429, 5xx and unlisted statuses raise `Retry`. They honour `Retry-After` and, for 429, `x-ratelimit-reset`
    in Unix seconds. Other 4xx raise `Reject`. `answers` overrides the meaning of a status. The outcome has the status
    and the first 200 bytes of `body`, or of what has arrived of the body.
    """
    if answer.history:
        reason = f"redirected to {answer.url.with_query(None)}: configure the final address"
        raise Unauthorized(reason, status=answer.history[-1].status)
    if (answers.get(str(answer.status)) or _judge_status(answer.status)) == "deliver":
        return
    if body is None:
        try:
            body = answer.content.read_nowait(EXCERPT_BYTES + 4)
        except Exception:  # whatever ails the connection, the status is the news
            body = b""
    text = _UTF8("replace").decode(body[:EXCERPT_BYTES])
    said = " ".join((text if len(body) <= EXCERPT_BYTES else cut(f"{text} ", len(text))).split())  # cut between words
    reason = f"HTTP {answer.status}{_describe_target(answer)}" + (f": {said}" if said else "")
    raise make_failure(answer.status, answer.headers, reason, said, answers)


def make_failure(
    status: int, headers: Mapping[str, str], reason: str, said: str = "", answers: Answers = MappingProxyType({})
) -> Retry | Reject | Unauthorized:
    """Make the outcome of a status other than success, by the rules of `check`."""
    meaning = answers.get(str(status)) or _judge_status(status)
    if meaning == "pause":
        return Unauthorized(reason, status=status, answer=said)
    if meaning == "reject":
        return Reject(reason, too_large=status == 413, status=status, answer=said)
    now = datetime.now(UTC)
    after = retry_after(headers.get("Retry-After"), now)
    if after is None and status == 429:
        header = headers.get("x-ratelimit-reset", "")
        if header.isdecimal() and (moment := float(header)) > EARLIEST_RESET:
            after = min(max(0.0, moment - now.timestamp()), LONGEST_WAIT_S)
    return Retry(reason, after=after, status=status, answer=said)


def _judge_status(status: int) -> str:
    if 200 <= status < 300:
        return "deliver"
    if status in (401, 403, 404) or 300 <= status < 400:
        return "pause"
    return "reject" if 400 <= status < 500 and status not in (408, 425, 429) else "retry"


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, a year at most; None if it asks for none.

    `header` holds seconds or a date (RFC 9110).
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(float(header), LONGEST_WAIT_S)
    try:
        date = parsedate_to_datetime(header)
        wait = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):  # what Python makes of odd dates
        return None
    return min(max(0.0, wait), LONGEST_WAIT_S)


def _describe_target(answer: "aiohttp.ClientResponse") -> str:
    """Describe the target of a redirect, without its query, which may hold a secret."""
    location = answer.headers.get("Location", "")
    if not location or not 300 <= answer.status < 400:
        return ""
    try:
        return f" to {answer.url.join(type(answer.url)(location)).with_user(None).with_query(None).with_fragment(None)}"
    except (ValueError, TypeError):  # it is no URL
        return ""
