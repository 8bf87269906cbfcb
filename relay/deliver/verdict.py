"""What an attempt came to: a connector's answer, of whatever form, in terms of event numbers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.api import Delivered, Outcome, Reject, Retry, Unauthorized


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one attempt at a batch, by the events' numbers in it."""

    delivered: int = 0
    again: Sequence[int] = ()
    """To be tried again."""
    refused: Sequence[tuple[int, str]] = ()
    """Never to be tried again, each with the reason."""
    split: bool = False
    """The batch was refused as a whole: which event is to blame is not known yet."""
    reason: str = ""
    """Why anything is to be tried again."""
    after: float | None = None
    """Seconds that the destination asks to be left alone."""
    pause: bool = False
    """The destination is reached in the wrong way: no event can get through until that is mended."""


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
            return Verdict(refused=[(number, answer.reason) for number in everything], split=size > 1)
        case TimeoutError():
            return Verdict(again=everything, reason="no answer in time")
        case BaseException():
            return Verdict(again=everything, reason=f"bug in the connector: {type(answer).__name__}: {answer}")
    return _judge_each(size, answer)


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
        return Verdict(again=range(size), reason=f"bug in the connector: {wrong}")
    again = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Retry | Unauthorized)]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Retry | Unauthorized)]
    waits = [outcome.after for outcome in outcomes if isinstance(outcome, Retry) and outcome.after is not None]
    return Verdict(
        delivered=sum(isinstance(outcome, Delivered) for outcome in outcomes),
        again=again,
        refused=[(number, outcome.reason) for number, outcome in enumerate(outcomes) if isinstance(outcome, Reject)],
        reason=next(iter(reasons), ""),
        after=max(waits, default=None),
        pause=any(isinstance(outcome, Unauthorized) for outcome in outcomes),
    )
