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
    """The destination has the event, or has erased the user."""

    note: str = ""
    """For the receipt of an erasure: what could not be known, such as ids that nobody named."""

    def __post_init__(self) -> None:
        _check("Delivered", "note", self.note, str)


DELIVERED: Final = Delivered()


@dataclass(frozen=True, slots=True)
class Skipped:
    """The connector has no use for the event and says why: it counts as filtered."""

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
    """Not now: try the same events again, `after` seconds from now at the earliest if that is given. In a list of
    outcomes it holds for its own event. `alone`, for an outcome of single events: the destination is well, only these
    have to wait, and others go meanwhile."""

    after: float | None = None
    alone = False

    def __init__(
        self,
        reason: str = "",
        *,
        after: float | None = None,
        alone: bool = False,
        status: int | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(reason, status=status, answer=answer)
        if isinstance(after, bool) or not isinstance(after, int | float | None):
            raise TypeError(f"Retry: after is a number of seconds or None, got {after!r:.80}; see retry_after()")
        if after is not None and not 0 <= after < inf:
            raise ValueError(f"Retry: after is a number of seconds, 0 or more, got {after!r:.80}")
        _check("Retry", "alone", alone, bool)
        self.after, self.alone = after, alone


class Reject(_Failure):
    """Never: the destination refuses these events for what they are. The lane splits a refused batch until it holds
    the refused event alone, parks that one with `reason`, and delivers the rest. `too_large`: what is refused is the
    size; the batch is split into halves of equal size then. Without `status` the connector itself has refused them:
    that costs nothing of its `rate`, and does not say that the destination is there."""

    too_large = False

    def __init__(self, reason: str, *, too_large: bool = False, status: int | None = None, answer: str = "") -> None:
        super().__init__(reason, status=status, answer=answer)
        _check("Reject", "too_large", too_large, bool)
        self.too_large = too_large


class Unauthorized(_Failure):
    """Not like this: credentials or address are wrong. relay raises an alarm and tries again; the queue stays."""


Outcome = Delivered | Skipped | Retry | Reject | Unauthorized


class Answered(NamedTuple):
    """What a destination said with a 2xx."""

    headers: Mapping[str, str]
    body: bytes
    """What came of it within the limits: 64 KiB and 1 second, if `post` was not asked for more."""
    complete: bool = True
    """Whether that is all of the body. If not, it was longer or late, or broke off: whoever reads in it what the
    destination says of single events must not take the rest for good."""


Answers = Mapping[str, Literal["deliver", "retry", "reject", "pause"]]
"""What a status, as a string such as "409", means; for the others the usual applies."""


def check(answer: "aiohttp.ClientResponse", body: bytes | None = None, answers: Answers = MappingProxyType({})) -> None:
    """Turn an HTTP answer into an outcome: return for 2xx, raise for the rest.

    401, 403, 404 and redirects raise `Unauthorized` (a redirected POST loses its body: configure the final address);
    408, 425, 429, 5xx and unlisted codes raise `Retry` and honour Retry-After or, for 429, `x-ratelimit-reset` (Unix
    seconds, as Braze sends it: Braze docs, API limits); other 4xx raise `Reject`. What is raised
    has the status and, beside the reason and in it, the first EXCERPT_BYTES of `body`, or of what has arrived of it.
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
        after = _reset_after(headers.get("x-ratelimit-reset", ""), now)
    return Retry(reason, after=after, status=status, answer=said)


def _usual(status: int) -> str:
    if 200 <= status < 300:
        return "deliver"
    if status in (401, 403, 404) or 300 <= status < 400:
        return "pause"
    return "reject" if 400 <= status < 500 and status not in (408, 425, 429) else "retry"


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110 10.2.3: seconds or a date), LONGEST_WAIT_S at most; None if
    it says neither, or there is none."""
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


def _reset_after(header: str, now: datetime) -> float | None:
    """Seconds until the moment in `x-ratelimit-reset`, LONGEST_WAIT_S at most; None if it names none."""
    if not header.isdecimal() or (moment := float(header)) <= EARLIEST_RESET:
        return None
    return min(max(0.0, moment - now.timestamp()), LONGEST_WAIT_S)


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
