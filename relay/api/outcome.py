"""What can become of a delivery. A closed vocabulary: raise one of these from `deliver`, or return one per event.

Returning None means that all were delivered. Of other exceptions, OSError (with ConnectionError, TimeoutError, TLS and
name errors), aiohttp.ClientError and EOFError count as `Retry`, and all others as the connector's bug.

Arguments of the wrong type or value raise TypeError or ValueError at once: the traceback shows whose mistake it is.
"""

from codecs import getincrementaldecoder
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from relay.api.text import cut

if TYPE_CHECKING:
    import aiohttp  # a third of a second that `relay check` does not need

EXCERPT_BYTES: Final = 200
"""What is kept of a body."""
EARLIEST_RESET: Final = 1_000_000_000
"""Smaller numbers in `x-ratelimit-reset` are no Unix seconds but something else."""
LONGEST_WAIT_S: Final = 365 * 86400.0
"""A destination that asks for more, asks for this. (What a lane waits is less.)"""
NAMES: Final = {
    str: "a text",
    int: "a whole number",
    NoneType: "None",
    bool: "True or False",
    BaseException: "an exception",
}
_UTF8: Final = getincrementaldecoder("utf-8")


def _check(outcome: str, argument: str, value: object, *types: type) -> None:
    """Raise TypeError for an argument that is of none of these types. True and False are no numbers."""
    if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
        return
    expected = " or ".join(NAMES.get(one, one.__name__) for one in types)
    raise TypeError(f"{outcome}: {argument} is {expected}, got {value!r:.80}")


@dataclass(frozen=True, slots=True)
class Delivered:
    """Report that the destination has the event, or has erased the user."""

    note: str = ""
    """For the receipt of an erasure: what could not be known, such as ids that nobody named."""

    def __post_init__(self) -> None:
        _check("Delivered", "note", self.note, str)


DELIVERED: Final = Delivered()
"""The outcome `Delivered()`, to return for an event."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Report that the connector has no use for the event. The event counts as filtered, with `reason`."""

    reason: str

    def __post_init__(self) -> None:
        _check("Skipped", "reason", self.reason, str)


class _Failure(Exception):
    """What all that is not delivered has: `reason`, a sentence for people, and if the destination answered over HTTP
    the `status` of that answer and the first bytes of its body. `reason` may be the exception that was caught."""

    reason, answer = "", ""
    status: int | None = None

    def __init__(self, reason: str, *, status: int | None = None, answer: str = "") -> None:
        super().__init__(reason)
        name = type(self).__name__
        _check(name, "reason", reason, str, BaseException)
        _check(name, "status", status, int, NoneType)
        _check(name, "answer", answer, str)
        self.reason = str(reason)
        self.status = status
        self.answer = answer


class Retry(_Failure):
    """Ask relay to send the same events again later.

    `reason` is a sentence for people, or the exception. `after` is the least number of seconds until the next attempt.
    `status` and `answer` are the HTTP status and the first bytes of the answer. With
    `hold_lane=False`, in a list of outcomes, only this event waits and the others go on: the destination is well.
    """

    after: float | None = None
    hold_lane = True

    def __init__(
        self,
        reason: str = "",
        *,
        after: float | None = None,
        hold_lane: bool = True,
        status: int | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(reason, status=status, answer=answer)
        if isinstance(after, bool) or not isinstance(after, int | float | None):
            raise TypeError(f"Retry: after is a number of seconds or None, got {after!r:.80}; see retry_after()")
        if after is not None and not 0 <= after < inf:
            raise ValueError(f"Retry: after is a number of seconds, 0 or more, got {after!r:.80}")
        _check("Retry", "hold_lane", hold_lane, bool)
        self.after, self.hold_lane = after, hold_lane


class Reject(_Failure):
    """Have relay park events that the destination refuses for what they are.

    relay splits a refused batch until it has the refused event alone. It parks that event with `reason`, and delivers
    the others. With `too_large` the size is refused, and relay halves the batch by bytes. Without `status` the
    connector itself has refused: that costs nothing of its `rate`, and says nothing about the destination.
    """

    too_large = False

    def __init__(self, reason: str, *, too_large: bool = False, status: int | None = None, answer: str = "") -> None:
        super().__init__(reason, status=status, answer=answer)
        _check("Reject", "too_large", too_large, bool)
        self.too_large = too_large


class Unauthorized(_Failure):
    """Report that credentials or address are wrong. The events wait; relay tries again, and the status says so."""


Outcome = Delivered | Skipped | Retry | Reject | Unauthorized


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
    if (answers.get(str(answer.status)) or _usual(answer.status)) == "deliver":
        return
    said = _excerpt(_arrived(answer) if body is None else body)
    reason = f"HTTP {answer.status}{_target(answer)}" + (f": {said}" if said else "")
    raise failure_of(answer.status, answer.headers, reason, said, answers)


def failure_of(
    status: int, headers: Mapping[str, str], reason: str, said: str = "", answers: Answers = MappingProxyType({})
) -> Retry | Reject | Unauthorized:
    """What a status means that is no success, as `check` says."""
    meaning = answers.get(str(status)) or _usual(status)
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


def _usual(status: int) -> str:
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


def _target(answer: "aiohttp.ClientResponse") -> str:
    """Where a redirect leads, without its query, which may hold a secret."""
    location = answer.headers.get("Location", "")
    if not location or not 300 <= answer.status < 400:
        return ""
    try:
        return f" to {answer.url.join(type(answer.url)(location)).with_user(None).with_query(None).with_fragment(None)}"
    except (ValueError, TypeError):  # it is no URL
        return ""


def _arrived(answer: "aiohttp.ClientResponse") -> bytes:
    """The first bytes of the body, without waiting for them."""
    try:
        return answer.content.read_nowait(EXCERPT_BYTES + 4)
    except Exception:  # whatever ails the connection, the status is the news
        return b""


def _excerpt(body: bytes) -> str:
    """The first bytes as one line of text, cut between two words."""
    said = _UTF8("replace").decode(body[:EXCERPT_BYTES])
    whole = len(body) <= EXCERPT_BYTES
    return " ".join((said if whole else cut(f"{said} ", len(said))).split())
