"""The result of an attempt: the connector's answer, of whatever form, by the numbers of events. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from typing import Final, NamedTuple

from msgspec import Struct

from relay.api import DELIVERED, Delivered, Event, Outcome, Reject, Retry, Skipped, Unauthorized, UnreadableEvent
from relay.api.transport import outage
from relay.guests import name_error, read_text

NOT_SENT: Final = "not sent: another event of the batch cannot be read"
CLOSE: Final = 1.25
CLOSE_S: Final = 0.1
"""Waits of single events that differ by no more than this factor, or are as short, are one wait: the longest."""


class DestinationRefusal(NamedTuple):
    """An event that is never tried again."""

    number: int
    reason: str
    cause: str = "refused"
    status: int | None = None
    """The HTTP status of the destination's answer, if there was one."""
    answer: str = ""
    """The first bytes of the answer's body."""


class Deferral(NamedTuple):
    """Events that are tried again, and why."""

    numbers: Sequence[int]
    reason: str
    status: int | None = None
    """The HTTP status of the destination's answer, if there was one."""
    answer: str = ""
    """The first bytes of the answer's body."""
    after: float | None = None
    """The shortest wait, in seconds."""
    alone: bool = False
    """Only these events wait. The destination takes others meanwhile."""
    unauthorized: bool = False
    """The destination does not accept relay. No event gets through until address or credentials are corrected."""
    bug: bool = False
    """The connector did what it must not do. Neither the destination nor, perhaps, the events are to blame."""

    def make_refusals(self) -> list[DestinationRefusal]:
        """Return the same events as events that are not tried again."""
        cause = "bug" if self.bug else "gave_up"
        return [DestinationRefusal(number, self.reason, cause, self.status, self.answer) for number in self.numbers]


class AttemptResult(Struct, frozen=True):
    """The result of one attempt at a batch, by the numbers of its events."""

    delivered: int = 0
    deferred: Sequence[Deferral] = ()
    """Events to try again."""
    refused: Sequence[DestinationRefusal] = ()
    """In the order of the events."""
    skipped: Sequence[int] = ()
    """Events for which the connector has no use."""
    why_skipped: str = ""
    split: bool = False
    """The batch was refused as a whole. Which event is to blame is not known yet."""
    too_large: bool = False
    """The batch was refused for its size."""
    by_event: bool = False
    """The connector answered for each event by itself."""

    @property
    def deferred_numbers(self) -> Sequence[int]:
        """The numbers of all events to try again."""
        if len(self.deferred) == 1:
            return self.deferred[0].numbers
        return sorted(number for one in self.deferred for number in one.numbers)

    @property
    def refused_numbers(self) -> Sequence[int]:
        """The numbers of all events that were refused for good."""
        return [refusal.number for refusal in self.refused]

    def find_delivered(self, size: int) -> Sequence[int]:
        """Return the numbers of the delivered events, of a batch of `size` events."""
        others = {*self.deferred_numbers, *self.skipped, *self.refused_numbers}
        return [number for number in range(size) if number not in others]

    @property
    def unsent(self) -> int:
        """How many events caused no request: the connector had no use for them, or refused them by itself."""
        return len(self.skipped) + sum(refusal.status is None for refusal in self.refused)

    @property
    def settles_any(self) -> bool:
        """Whether the destination has settled an event."""
        return self.delivered > 0 or any(refusal.status is not None for refusal in self.refused)


def judge(
    size: int,
    answer: Sequence[Outcome] | BaseException | None,
    redact: Callable[[str], str] = str,
    batch: Sequence[Event] = (),
) -> AttemptResult:
    """Read what `deliver` returned or raised for a batch of this size.

    `redact` removes from texts of the destination and the connector what must not be logged or stored."""

    def clean(text: object) -> str:
        return redact(read_text(text))

    if answer is None:
        return AttemptResult(delivered=size)
    try:
        if isinstance(answer, BaseException):
            return _judge_error(size, answer, clean, batch)
        if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
            wrong = f"deliver returned {type(answer).__name__}, not None or a list of outcomes"
        elif len(answer) != size:
            wrong = f"{len(answer)} outcomes for {size} events"
        else:
            return _judge_each(answer, clean)
    except Exception as error:  # what the answer is made of is the connector's
        wrong = name_error(error)
    return _blame_connector(size, clean(wrong))


def _judge_error(
    size: int, error: BaseException, clean: Callable[[object], str], batch: Sequence[Event]
) -> AttemptResult:
    if (unreadable := next(_find_unreadable(error), None)) and (refused := _refuse(unreadable, batch, clean)):
        others = sorted({*range(size)}.difference(one.number for one in refused))
        waiting = [Deferral(others, NOT_SENT, after=0.0, alone=True)] if others else []
        return AttemptResult(deferred=waiting, refused=refused)
    match outcome := outage.find_outcome(error):
        case Reject():
            refused = [_make_refusal(number, outcome, clean) for number in range(size)]
            return AttemptResult(refused=refused, split=size > 1, too_large=outcome.too_large)
        case Retry() | Unauthorized():
            return AttemptResult(deferred=[_make_deferral(range(size), outcome, clean)])
    return _blame_connector(size, clean(name_error(find_culprit(error))))


def _blame_connector(size: int, what: str) -> AttemptResult:
    return AttemptResult(deferred=[_defer_by_bug(range(size), what)])


def _defer_by_bug(numbers: Sequence[int], what: str) -> Deferral:
    return Deferral(numbers, f"bug in the connector: {what}", bug=True)


def find_culprit(error: BaseException) -> BaseException:
    """Return the first exception of a group, as TaskGroup raises it, that is a bug."""
    while isinstance(error, ExceptionGroup):
        error = next((one for one in error.exceptions if outage.find_outcome(one) is None), error.exceptions[0])
    return error


def _find_unreadable(error: BaseException) -> Iterator[UnreadableEvent]:
    if isinstance(error, UnreadableEvent):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _find_unreadable(one)


def _refuse(error: UnreadableEvent, batch: Sequence[Event], clean: Callable[[object], str]) -> list[DestinationRefusal]:
    """Return all events of which the field cannot be read, not only the first."""
    found = []
    for number, event in enumerate(batch):
        try:
            getattr(event, error.field)
        except UnreadableEvent as same:
            found.append(DestinationRefusal(number, clean(same.reason)))
    if found:
        return found
    changed = (number for number, event in enumerate(batch) if event.offset == error.offset)  # by the connector
    return [DestinationRefusal(number, clean(error.reason)) for number in changed]


def _make_deferral(numbers: Sequence[int], outcome: Retry | Unauthorized, clean: Callable[[object], str]) -> Deferral:
    after = outcome.after if isinstance(outcome, Retry) else None
    if after is not None and not (isfinite(after) and after >= 0):  # the connector has changed the outcome
        raise ValueError(f"Retry: after is a number of seconds, 0 or more, got {after!r:.80}")
    return Deferral(
        numbers,
        clean(outcome.reason) or "no reason given",
        outcome.status,
        clean(outcome.answer),
        after,
        alone=isinstance(outcome, Retry) and not outcome.hold_lane,
        unauthorized=isinstance(outcome, Unauthorized),
    )


def _make_refusal(number: int, outcome: Reject, clean: Callable[[object], str]) -> DestinationRefusal:
    cause = "too_large" if outcome.too_large else "refused"
    return DestinationRefusal(number, clean(outcome.reason), cause, outcome.status, clean(outcome.answer))


def _judge_each(outcomes: Sequence[object], clean: Callable[[object], str]) -> AttemptResult:
    if outcomes.count(DELIVERED) == len(outcomes):
        return AttemptResult(delivered=len(outcomes), by_event=True)
    delivered, skipped = 0, dict[int, str]()
    refused, waiting = list[DestinationRefusal](), list[Deferral]()
    for number, given in enumerate(outcomes):
        try:
            match outcome := given if isinstance(given, Outcome) else _read_outcome(given):
                case Delivered():
                    delivered += 1
                case Skipped():
                    skipped[number] = outcome.reason
                case Reject():
                    refused.append(_make_refusal(number, outcome, clean))
                case Retry() | Unauthorized():
                    waiting.append(_make_deferral([number], outcome, clean))
                case wrong:
                    waiting.append(_defer_by_bug([number], clean(wrong)))
        except Exception as error:  # the connector has changed the outcome after it was made
            waiting.append(_defer_by_bug([number], clean(name_error(error))))
    return AttemptResult(
        delivered=delivered,
        deferred=[*_group_alike(waiting)],
        refused=refused,
        skipped=tuple(skipped),
        why_skipped=clean(next(iter(skipped.values()), "")),
        by_event=True,
    )


def _read_outcome(given: object) -> Outcome | str:
    """Return the outcome that an entry means, such as an exception that `gather` has caught; what is wrong if it means
    nothing."""
    if isinstance(given, BaseException):
        return next(_find_unreadable(given), None) or outage.find_outcome(given) or name_error(find_culprit(given))
    return f"not an outcome: {given!r:.80}"


def _group_alike(waiting: Iterable[Deferral]) -> Iterator[Deferral]:
    """Group deferrals of the same kind with about the same wait. The first gives the reason, the longest the wait."""
    groups: list[list[Deferral]] = []
    for one in sorted(waiting, key=lambda one: (_kind(one), one.after or 0.0)):
        first = groups[-1][0] if groups else one
        if groups and _kind(first) == _kind(one) and (one.after or 0.0) <= CLOSE * max(first.after or 0.0, CLOSE_S):
            groups[-1].append(one)
        else:
            groups.append([one])
    for group in groups:
        numbers = sorted(number for one in group for number in one.numbers)
        first = min(group, key=lambda one: one.numbers[0])
        yield first._replace(numbers=numbers, after=group[-1].after)


def _kind(one: Deferral) -> tuple[bool, ...]:
    return one.alone, one.unauthorized, one.bug, one.after is None
