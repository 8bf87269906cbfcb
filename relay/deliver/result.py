"""What an attempt came to: a connector's answer, of whatever form, in terms of event numbers. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, NamedTuple

from relay.api import DELIVERED, Delivered, Event, Outcome, Reject, Retry, Skipped, Unauthorized, UnreadableEvent
from relay.api.transport import outage
from relay.guests import named, text_of

NOT_SENT: Final = "not sent: another event of the batch cannot be read"
CLOSE: Final = 1.25
CLOSE_S: Final = 0.1
"""Waits of single events that differ by no more than this factor, or are as short, are one wait: the longest."""


class DestinationRefusal(NamedTuple):
    """An event that is never to be tried again."""

    number: int
    reason: str
    cause: str = "refused"
    status: int | None = None
    """Of the destination's answer, if it gave one over HTTP."""
    answer: str = ""
    """The first bytes of its body."""


class Deferral(NamedTuple):
    """Events that are to be tried again, and why."""

    numbers: Sequence[int]
    reason: str
    status: int | None = None
    """What the destination answered, if it did over HTTP."""
    answer: str = ""
    """The first bytes of the answer's body."""
    after: float | None = None
    """Seconds that they are to wait at least."""
    alone: bool = False
    """Only they have to wait; the destination takes others meanwhile."""
    unauthorized: bool = False
    """The destination does not accept relay: no event can get through until address or credentials are mended."""
    bug: bool = False
    """The connector did what it should not; that is neither the destination's nor, perhaps, the events' fault."""

    def given_up(self) -> list[DestinationRefusal]:
        """The same events as ones that are not tried again."""
        cause = "bug" if self.bug else "gave_up"
        return [DestinationRefusal(number, self.reason, cause, self.status, self.answer) for number in self.numbers]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one attempt at a batch, by the events' numbers in it."""

    delivered: int = 0
    deferred: Sequence[Deferral] = ()
    """To be tried again."""
    refused: Sequence[DestinationRefusal] = ()
    """In the order of the events."""
    skipped: Sequence[int] = ()
    """The connector has no use for them."""
    why_skipped: str = ""
    split: bool = False
    """The batch was refused as a whole: which event is to blame is not known yet."""
    too_large: bool = False
    """It was refused for its size."""
    by_event: bool = False
    """The connector answered for each event by itself."""

    @property
    def again(self) -> Sequence[int]:
        """All that is to be tried again."""
        if len(self.deferred) == 1:
            return self.deferred[0].numbers
        return sorted(number for one in self.deferred for number in one.numbers)

    @property
    def unsent(self) -> int:
        """How many events caused no request: the connector had no use for them, or refused them by itself."""
        return len(self.skipped) + sum(refusal.status is None for refusal in self.refused)

    @property
    def answered(self) -> bool:
        """Whether the destination has settled any events."""
        return self.delivered > 0 or any(refusal.status is not None for refusal in self.refused)


def judge(
    size: int,
    answer: Sequence[Outcome] | BaseException | None,
    redact: Callable[[str], str] = str,
    batch: Sequence[Event] = (),
) -> Verdict:
    """Read what `deliver` returned or raised for a batch of this size.

    `redact` takes out of the destination's and the connector's words what must not be logged or stored."""

    def clean(text: object) -> str:
        return redact(text_of(text))

    if answer is None:
        return Verdict(delivered=size)
    try:
        return _judge(size, answer, clean, batch)
    except Exception as error:  # what it is made of is the connector's
        return _bug(size, clean(named(error)))


def _judge(
    size: int, answer: Sequence[Outcome] | BaseException, clean: Callable[[object], str], batch: Sequence[Event]
) -> Verdict:
    if not isinstance(answer, BaseException):
        wrong = _wrong(size, answer)
        return _bug(size, clean(wrong)) if wrong else _judge_each(answer, clean)
    if (unreadable := next(_unreadable_in(answer), None)) and (refused := _refuse(unreadable, batch, clean)):
        others = sorted({*range(size)}.difference(one.number for one in refused))
        waiting = [Deferral(others, NOT_SENT, after=0.0, alone=True)] if others else []
        return Verdict(deferred=waiting, refused=refused)
    match outcome := outage.outcome_of(answer):
        case Reject():
            refused = [_refusal(number, outcome, clean) for number in range(size)]
            return Verdict(refused=refused, split=size > 1, too_large=outcome.too_large)
        case Retry() | Unauthorized():
            return Verdict(deferred=[_deferral(range(size), outcome, clean)])
    return _bug(size, clean(named(_culprit(answer))))


def _bug(size: int, what: str) -> Verdict:
    return Verdict(deferred=[_buggy(range(size), what)])


def _buggy(numbers: Sequence[int], what: str) -> Deferral:
    return Deferral(numbers, f"bug in the connector: {what}", bug=True)


def _culprit(error: BaseException) -> BaseException:
    """Of a group of exceptions, as TaskGroup raises it, the first that is the bug."""
    while isinstance(error, ExceptionGroup):
        error = next((one for one in error.exceptions if outage.outcome_of(one) is None), error.exceptions[0])
    return error


def _unreadable_in(error: BaseException) -> Iterator[UnreadableEvent]:
    if isinstance(error, UnreadableEvent):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _unreadable_in(one)


def _refuse(error: UnreadableEvent, batch: Sequence[Event], clean: Callable[[object], str]) -> list[DestinationRefusal]:
    """The events of which that cannot be read, not only the first."""
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


def _deferral(numbers: Sequence[int], outcome: Retry | Unauthorized, clean: Callable[[object], str]) -> Deferral:
    after = _seconds(outcome.after) if isinstance(outcome, Retry) else None
    return Deferral(
        numbers,
        clean(outcome.reason) or "no reason given",
        outcome.status,
        clean(outcome.answer),
        after,
        alone=isinstance(outcome, Retry) and not outcome.hold_lane,
        unauthorized=isinstance(outcome, Unauthorized),
    )


def _seconds(after: float | None) -> float | None:
    """The wait of an outcome, which the connector may have changed since it was made. Raises ValueError."""
    if after is None or (isfinite(after) and after >= 0):
        return after
    raise ValueError(f"Retry: after is a number of seconds, 0 or more, got {after!r:.80}")


def _refusal(number: int, outcome: Reject, clean: Callable[[object], str]) -> DestinationRefusal:
    cause = "too_large" if outcome.too_large else "refused"
    return DestinationRefusal(number, clean(outcome.reason), cause, outcome.status, clean(outcome.answer))


def _wrong(size: int, outcomes: object) -> str | None:
    """What of a connector's answer is no answer."""
    if not isinstance(outcomes, Sequence) or isinstance(outcomes, str | bytes):
        return f"deliver returned {type(outcomes).__name__}, not None or a list of outcomes"
    if len(outcomes) != size:
        return f"{len(outcomes)} outcomes for {size} events"
    return None


def _judge_each(outcomes: Sequence[object], clean: Callable[[object], str]) -> Verdict:
    if outcomes.count(DELIVERED) == len(outcomes):
        return Verdict(delivered=len(outcomes), by_event=True)
    delivered, skipped = 0, dict[int, str]()
    refused, waiting = list[DestinationRefusal](), list[Deferral]()
    for number, given in enumerate(outcomes):
        try:
            match outcome := given if isinstance(given, Outcome) else _outcome(given):
                case Delivered():
                    delivered += 1
                case Skipped():
                    skipped[number] = outcome.reason
                case Reject():
                    refused.append(_refusal(number, outcome, clean))
                case Retry() | Unauthorized():
                    waiting.append(_deferral([number], outcome, clean))
                case wrong:
                    waiting.append(_buggy([number], clean(wrong)))
        except Exception as error:  # the connector has changed the outcome after it was made
            waiting.append(_buggy([number], clean(named(error))))
    return Verdict(
        delivered=delivered,
        deferred=[*_together(waiting)],
        refused=refused,
        skipped=tuple(skipped),
        why_skipped=clean(next(iter(skipped.values()), "")),
        by_event=True,
    )


def _outcome(given: object) -> Outcome | str:
    """What an entry means that is no outcome, such as an exception that `gather` has caught; what is wrong if it means
    nothing."""
    if isinstance(given, BaseException):
        return next(_unreadable_in(given), None) or outage.outcome_of(given) or named(_culprit(given))
    return f"not an outcome: {given!r:.80}"


def _together(waiting: Iterable[Deferral]) -> Iterator[Deferral]:
    """The same in few: those that wait for the same, about as long. The first says why, the longest how long."""
    groups: list[list[Deferral]] = []
    for one in sorted(waiting, key=lambda one: (_kind(one), one.after or 0.0)):
        if groups and _are_alike(groups[-1][0], one):
            groups[-1].append(one)
        else:
            groups.append([one])
    for group in groups:
        numbers = sorted(number for one in group for number in one.numbers)
        first = min(group, key=lambda one: one.numbers[0])
        yield first._replace(numbers=numbers, after=group[-1].after)


def _kind(one: Deferral) -> tuple[bool, ...]:
    return one.alone, one.unauthorized, one.bug, one.after is None


def _are_alike(one: Deferral, longer: Deferral) -> bool:
    return _kind(one) == _kind(longer) and (longer.after or 0.0) <= CLOSE * max(one.after or 0.0, CLOSE_S)
