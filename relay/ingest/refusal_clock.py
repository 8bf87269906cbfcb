"""Watches for a source that refuses everything, before its sender stops for good."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from relay.api import Source
from relay.state import Refusals
from relay.words import moment

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
WARN_H: Final = (1, 24, 72)
ADVICE: Final = {
    401: "compare the credentials of the sender with those of the source",
    413: "raise ingest.max_body",
    429: "raise the source's rate",
    503: "the reason says what takes no events; make room there, or end what locks it",
}
OTHER_ADVICE: Final = "the reason says what is wrong with the requests"
LOST: Final = "events are lost: Braze does not send again what got 401 or 403; "
STOPS: Final = "; at the deadline Braze disables the Current"
LATER_LOST: Final = "; later events are lost"
log = structlog.stdlib.get_logger()


class Guard:
    """The clock of one source: the first refusal after a 2xx starts it, any 2xx stops it."""

    def __init__(self, source: Source, save_soon: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._source, self._save_soon, self._clock = source, save_soon, clock
        self._refusals: Refusals | None = None

    def restore(self, refusals: Refusals | None) -> None:
        """Go on with a clock that ran when relay stopped."""
        self._refusals = refusals

    @property
    def lasting(self) -> Refusals | None:
        """The refusals so far, if they have gone on for a minute: a blip is not worth keeping."""
        return self._refusals if self._refusals and _age(self._refusals) >= MINUTE_S else None

    def refused(self, status: int, reason: str) -> None:
        """A request was not answered 2xx."""
        now, before = self._clock(), self._refusals
        since = before.since if before else now
        patience = self._source.disabled_after
        deadline = None if patience is None else since + patience
        self._refusals = Refusals(since, now, status, reason, deadline)
        age_before = _age(before) if before else 0.0
        if _marks(now - since) > _marks(age_before):
            self._warn(self._refusals)
        if (now - since) // MINUTE_S > age_before // MINUTE_S:
            self._save_soon()

    def accepted(self) -> None:
        """A request was answered 2xx."""
        if self._refusals is None:
            return
        refusals, lasting, self._refusals = self._refusals, self.lasting, None
        if lasting:
            self._save_soon()
        if _marks(_age(refusals)):
            hours = round((self._clock() - refusals.since) / HOUR_S, 1)
            log.info("source takes events again", source=self._source.name, after_h=hours)

    def _warn(self, refusals: Refusals) -> None:
        """Say it so that whoever reads it knows what to do, and how much time there is."""
        until = {} if refusals.deadline is None else {"deadline": moment(refusals.deadline)}
        log.error(
            "source has refused everything for too long",
            source=self._source.name,
            since=moment(refusals.since),
            hours=round(_age(refusals) / HOUR_S, 1),
            status=refusals.status,
            reason=refusals.reason,
            **until,
            advice=_advice(refusals),
        )


def _advice(refusals: Refusals) -> str:
    """What is lost where the sender is Braze, and what to do."""
    advice = ADVICE.get(refusals.status, OTHER_ADVICE)
    if refusals.deadline is None:
        return advice
    loses = refusals.status in (401, 403)
    return (LOST if loses else "") + advice + STOPS + ("" if loses else LATER_LOST)


def _age(refusals: Refusals) -> float:
    return refusals.last - refusals.since


def _marks(age: float) -> int:
    """How many of the moments to warn are over."""
    return sum(age >= hours * HOUR_S for hours in WARN_H)
