"""What an attempt came to: a connector's answer, of whatever form, in terms of event numbers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from relay.api import Delivered, Outcome, Reject, Retry, Unauthorized


class Refusal(NamedTuple):
    """An event that is never to be tried again."""

    number: int
    reason: str
    cause: str = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one attempt at a batch, by the events' numbers in it."""

    delivered: int = 0
    again: Sequence[int] = ()
    """To be tried again."""
    refused: Sequence[Refusal] = ()
    split: bool = False
    """The batch was refused as a whole: which event is to blame is not known yet."""
    too_large: bool = False
    """It was refused for its size."""
    reason: str = ""
    """Why anything is to be tried again."""
    after: float | None = None
    """Seconds that the destination asks to be left alone."""
    pause: bool = False
    """The destination is reached in the wrong way: no event can get through until that is mended."""
    bug: bool = False
    """The connector did what it should not; that is neither the destination's nor the events' fault."""

    def given_up(self) -> "Verdict":
        """The same with nothing to be tried again."""
        cause = "bug" if self.bug else "gave_up"
        refused = [*self.refused, *(Refusal(number, self.reason, cause) for number in self.again)]
        return replace(self, again=(), refused=refused)


def judge(size: int, answer: Sequence[Outcome] | BaseException | None) -> Verdict:
    """Read what `deliver` returned or raised for a batch of this size."""
    everything = range(size)
    match answer:
        case None:
            return Verdict(delivered=size)
        case Retry():
            return Verdict(again=everything, reason=answer.reason or "retry", after=answer.after)
        case Unauthorized():
            return Verdict(again=everything, reason=answer.reason, pause=True)
        case Reject():
            refused = [_refusal(number, answer) for number in everything]
            return Verdict(refused=refused, split=size > 1, too_large=answer.too_large)
        case TimeoutError():
            return Verdict(again=everything, reason="no answer in time")
        case BaseException():
            return _bug(size, f"{type(answer).__name__}: {answer}")
    return _judge_each(size, answer)


def _bug(size: int, what: str) -> Verdict:
    return Verdict(again=range(size), reason=f"bug in the connector: {what}", bug=True)


def _refusal(number: int, outcome: Reject) -> Refusal:
    return Refusal(number, outcome.reason, "too_large" if outcome.too_large else "refused")


def _wrong(size: int, outcomes: object) -> str | None:
    """What of a connector's answer is no answer."""
    if not isinstance(outcomes, Sequence) or isinstance(outcomes, str | bytes):
        return f"deliver returned {type(outcomes).__name__}, not None or a list of outcomes"
    if len(outcomes) != size:
        return f"{len(outcomes)} outcomes for {size} events"
    strangers = (outcome for outcome in outcomes if not isinstance(outcome, Outcome))
    return next((f"{stranger!r:.80} is no outcome" for stranger in strangers), None)


def _judge_each(size: int, outcomes: Sequence[Outcome]) -> Verdict:
    if wrong := _wrong(size, outcomes):
        return _bug(size, wrong)
    again = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Retry | Unauthorized)]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Retry | Unauthorized)]
    waits = [outcome.after for outcome in outcomes if isinstance(outcome, Retry) and outcome.after is not None]
    return Verdict(
        delivered=sum(isinstance(outcome, Delivered) for outcome in outcomes),
        again=again,
        refused=[_refusal(number, outcome) for number, outcome in enumerate(outcomes) if isinstance(outcome, Reject)],
        reason=next(iter(reasons), ""),
        after=max(waits, default=None),
        pause=any(isinstance(outcome, Unauthorized) for outcome in outcomes),
    )
