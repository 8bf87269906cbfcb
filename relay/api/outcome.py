"""What can become of a delivery. A closed vocabulary: raise one of these from `deliver`, or return one per event.

Returning None means that all were delivered. Of other exceptions, OSError (with ConnectionError, TimeoutError, TLS and
name errors), aiohttp.ClientError and EOFError count as `Retry`, and all others as the connector's bug.

Arguments of the wrong type or value raise TypeError or ValueError at once: the traceback shows whose mistake it is.
"""

from dataclasses import dataclass
from math import inf
from types import NoneType
from typing import Final

NAMES: Final = {
    str: "a text",
    int: "a whole number",
    NoneType: "None",
    bool: "True or False",
    BaseException: "an exception",
}


def _check_type(outcome: str, argument: str, value: object, *types: type) -> None:
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
        _check_type("Delivered", "note", self.note, str)


DELIVERED: Final = Delivered()
"""The outcome `Delivered()`, to return for an event."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Report that the connector has no use for the event. The event counts as filtered, with `reason`."""

    reason: str

    def __post_init__(self) -> None:
        _check_type("Skipped", "reason", self.reason, str)


class _Failure(Exception):
    """What all that is not delivered has: `reason`, a sentence for people, and if the destination answered over HTTP
    the `status` of that answer and the first bytes of its body. `reason` may be the exception that was caught."""

    reason, answer = "", ""
    status: int | None = None

    def __init__(self, reason: str, *, status: int | None = None, answer: str = "") -> None:
        super().__init__(reason)
        name = type(self).__name__
        _check_type(name, "reason", reason, str, BaseException)
        _check_type(name, "status", status, int, NoneType)
        _check_type(name, "answer", answer, str)
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
        _check_type("Retry", "hold_lane", hold_lane, bool)
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
        _check_type("Reject", "too_large", too_large, bool)
        self.too_large = too_large


class Unauthorized(_Failure):
    """Report that credentials or address are wrong. The events wait; relay tries again, and the status says so."""


Outcome = Delivered | Skipped | Retry | Reject | Unauthorized
