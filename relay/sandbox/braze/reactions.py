"""Reactions of Braze to answers, by its documentation ("Custom Currents Export"): the current page, or an older page.

The pages differ. Three choices are ours, since no page says more: the waits between attempts, a single event that is
too large, and the time for which the queue of a disabled Current is kept.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final, Literal

from pydantic import Field

from relay.sandbox.braze.oddities import ODDITIES
from relay.sandbox.switches import Seconds, Share, Switches

HOUR_S, DAY_S = 3600.0, 86_400.0


class CurrentsSwitches(Switches):
    """Switches of the sending half of Braze. Times are seconds of its clock, except `timeout`."""

    page: Literal["current", "older"] = Field(
        "current",
        description="The page of Braze that says what errors mean. current: 401, 403 and 404 stop the Current, "
        "and 5 days of errors disable it. older: the Current goes on, and drops events after 48 and 24 hours.",
    )
    entitlement: Literal["all", "messages"] = Field("all", description="messages: no customer behavior events.")
    age: Seconds = Field(300.0, description="Maximum wait of an event for its batch to fill, in seconds of its clock.")
    retry_first: Seconds = Field(
        1.0,
        description="Seconds of its clock before a second attempt. Each further wait is twice as long, with jitter.",
    )
    retry_max: Seconds = Field(300.0, description="Longest wait between two attempts, in seconds of its clock.")
    timeout: Seconds = Field(10.0, description="Real seconds that it waits for an answer.")
    hang_up: Share = Field(0.0, description="Share of requests whose answer it does not wait for at all.")
    repeat: Share = Field(0.0, description="Share of accepted batches that it sends again.")
    repeat_part: Share = Field(0.0, description="... of which it sends a part again, as another batch.")
    odd: Share = Field(0.0, description=f"Share of made-up events with an oddity: {', '.join(ODDITIES)}.")


@dataclass(frozen=True, slots=True)
class ReactionRules:
    """What follows an error. Times are seconds."""

    wrong_again: tuple[float, float] | None
    """Range of the wait after 401, 403, 404; None: stop the Current, and do not send the events again."""
    wrong_for: float = math.inf
    """Drop events after this time of 401, 403, 404."""
    failing_for: float = math.inf
    """Drop events after this time of 429, 5xx and network errors."""
    disable_after: float = math.inf
    """Disable the Current after this time without a 2xx."""
    keep: float = 7 * DAY_S
    """Keep the events of a stopped Current for this time."""


PAGES: Final = {
    "current": ReactionRules(wrong_again=None, disable_after=5 * DAY_S),
    "older": ReactionRules(wrong_again=(120.0, 300.0), wrong_for=48 * HOUR_S, failing_for=24 * HOUR_S),
}


class Reaction(Enum):
    """What Braze does with a batch after an answer."""

    DONE = auto()
    SINGLES = auto()
    HALVES = auto()
    DROP = auto()
    WAIT = auto()
    WRONG = auto()


def choose_reaction(status: int | None, size: int, *, refused: bool = False) -> Reaction:
    """Choose the reaction of a batch of `size` events to the status of an answer; None is a network error.

    `refused`: whether a request with the batch was answered 400 before. Braze does not document its reaction to 413
    for a single event; the stand-in drops the event.
    """
    match status:
        case 400:
            return Reaction.DROP if refused and size == 1 else Reaction.SINGLES
        case 413:
            return Reaction.HALVES if size > 1 else Reaction.DROP
        case 401 | 403 | 404:
            return Reaction.WRONG
        case int() if 200 <= status < 300:
            return Reaction.DONE
        case _:
            return Reaction.WAIT


def compute_backoff(attempt: int, first: float, most: float, rng: Random) -> float:
    """Return the seconds to wait after an attempt: half to all of `first` * 2^(attempt - 1), at most `most`."""
    return min(most, first * 2.0 ** min(attempt - 1, 60)) * rng.uniform(0.5, 1)
