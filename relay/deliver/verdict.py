"""What an attempt came to: a connector's answer, of whatever form, in terms of event numbers. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

from relay.api import DELIVERED, Delivered, Outcome, Reject, Retry, Skipped, Unauthorized
from relay.guests import named, text_of


class Refusal(NamedTuple):
    """An event that is never to be tried again."""

    number: int
    reason: str
    cause: str = "refused"
    status: int | None = None
    """Of the destination's answer, if it gave one over HTTP."""
    answer: str = ""
    """The first bytes of its body."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one attempt at a batch, by the events' numbers in it."""

    delivered: int = 0
    again: Sequence[int] = ()
    """To be tried again."""
    refused: Sequence[Refusal] = ()
    """In the order of the events."""
    skipped: Sequence[int] = ()
    """The connector has no use for them."""
    why_skipped: str = ""
    split: bool = False
    """The batch was refused as a whole: which event is to blame is not known yet."""
    too_large: bool = False
    """It was refused for its size."""
    reason: str = ""
    """Why anything is to be tried again."""
    status: int | None = None
    """What the destination answered to that, if it did over HTTP."""
    answer: str = ""
    """The first bytes of the answer's body."""
    after: float | None = None
    """Seconds that the destination asks to be left alone."""
    alone: bool = False
    """Only these events have to wait; the destination takes others meanwhile."""
    pause: bool = False
    """The destination is reached in the wrong way: no event can get through until that is mended."""
    bug: bool = False
    """The connector did what it should not; that is neither the destination's nor the events' fault."""

    @property
    def unsent(self) -> int:
        """How many events caused no request: the connector had no use for them, or refused them by itself."""
        return len(self.skipped) + sum(refusal.status is None for refusal in self.refused)

    @property
    def answered(self) -> bool:
        """Whether the destination has settled any events."""
        return self.delivered > 0 or any(refusal.status is not None for refusal in self.refused)

    def given_up(self) -> "Verdict":
        """The same with nothing to be tried again."""
        cause = "bug" if self.bug else "gave_up"
        given_up = [Refusal(number, self.reason, cause, self.status, self.answer) for number in self.again]
        return replace(self, again=(), refused=sorted([*self.refused, *given_up], key=attrgetter("number")))


def judge(size: int, answer: Sequence[Outcome] | BaseException | None, redact: Callable[[str], str] = str) -> Verdict:
    """Read what `deliver` returned or raised for a batch of this size.

    `redact` takes out of the destination's and the connector's words what must not be logged or stored."""

    def clean(text: object) -> str:
        return redact(text_of(text))

    match answer:
        case None:
            return Verdict(delivered=size)
        case Retry() | Unauthorized():
            return _again(range(size), [answer], clean)
        case Reject():
            first = _refusal(0, answer, clean)
            refused = [first._replace(number=number) for number in range(size)]
            return Verdict(refused=refused, split=size > 1, too_large=answer.too_large)
        case TimeoutError():
            return Verdict(again=range(size), reason="no answer in time")
        case BaseException():
            return _bug(size, clean(named(answer)))
    if wrong := _wrong(size, answer):
        return _bug(size, clean(wrong))
    return _judge_each(answer, clean)


def _bug(size: int, what: str) -> Verdict:
    return Verdict(again=range(size), reason=f"bug in the connector: {what}", bug=True)


def _again(numbers: Sequence[int], outcomes: Sequence[Retry | Unauthorized], clean: Callable[[object], str]) -> Verdict:
    """What is to be tried again; of several reasons the first stands for all."""
    if not outcomes:
        return Verdict()
    first = outcomes[0]
    waits = [outcome.after for outcome in outcomes if isinstance(outcome, Retry) and outcome.after is not None]
    return Verdict(
        again=numbers,
        reason=clean(first.reason) or "no reason given",
        status=first.status,
        answer=clean(first.answer),
        after=max(waits, default=None),
        alone=all(isinstance(outcome, Retry) and outcome.alone for outcome in outcomes),
        pause=any(isinstance(outcome, Unauthorized) for outcome in outcomes),
    )


def _refusal(number: int, outcome: Reject, clean: Callable[[object], str]) -> Refusal:
    cause = "too_large" if outcome.too_large else "refused"
    return Refusal(number, clean(outcome.reason), cause, outcome.status, clean(outcome.answer))


def _wrong(size: int, outcomes: object) -> str | None:
    """What of a connector's answer is no answer."""
    if not isinstance(outcomes, Sequence) or isinstance(outcomes, str | bytes):
        return f"deliver returned {type(outcomes).__name__}, not None or a list of outcomes"
    if len(outcomes) != size:
        return f"{len(outcomes)} outcomes for {size} events"
    strangers = (outcome for outcome in outcomes if not isinstance(outcome, Outcome))
    return next((f"not an outcome: {stranger!r:.80}" for stranger in strangers), None)


def _judge_each(outcomes: Sequence[Outcome], clean: Callable[[object], str]) -> Verdict:
    if outcomes.count(DELIVERED) == len(outcomes):
        return Verdict(delivered=len(outcomes))
    skipped = {n: outcome.reason for n, outcome in enumerate(outcomes) if isinstance(outcome, Skipped)}
    again = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, Retry | Unauthorized)}
    return replace(
        _again([*again], [*again.values()], clean),
        delivered=sum(isinstance(outcome, Delivered) for outcome in outcomes),
        refused=[_refusal(n, outcome, clean) for n, outcome in enumerate(outcomes) if isinstance(outcome, Reject)],
        skipped=tuple(skipped),
        why_skipped=clean(next(iter(skipped.values()), "")),
    )
