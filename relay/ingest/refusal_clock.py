"""Warns of a source that refuses everything, before its sender stops for good."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from relay.api import Source
from relay.store import Refusals
from relay.words import format_time

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


class RefusalClock:
    """The clock of one source. The first refusal after a 2xx starts the clock, any 2xx stops it."""

    def __init__(self, source: Source, save_soon: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._source, self._save_soon, self._clock = source, save_soon, clock
        self.refusals: Refusals | None = None
        """The refusals since the last 2xx; None without any."""

    def restore(self, refusals: Refusals | None) -> None:
        """Restore a clock that ran when relay stopped."""
        self.refusals = refusals

    @property
    def lasting(self) -> Refusals | None:
        """The refusals so far, if they have lasted for a minute, else None."""
        return self.refusals if self.refusals and _age(self.refusals) >= MINUTE_S else None

    def note_refused(self, status: int, reason: str) -> None:
        """Note a request that was not answered 2xx."""
        now, before = self._clock(), self.refusals
        since = before.since if before else now
        patience = self._source.disabled_after
        deadline = None if patience is None else since + patience
        self.refusals = Refusals(since, now, status, reason, deadline)
        age_before = _age(before) if before else 0.0
        if _count_marks(now - since) > _count_marks(age_before):
            self._warn(self.refusals)
        if (now - since) // MINUTE_S > age_before // MINUTE_S:
            self._save_soon()

    def note_accepted(self) -> None:
        """Note a request that was answered 2xx."""
        if self.refusals is None:
            return
        refusals, lasting, self.refusals = self.refusals, self.lasting, None
        if lasting:
            self._save_soon()
        if _count_marks(_age(refusals)):
            hours = round((self._clock() - refusals.since) / HOUR_S, 1)
            log.info("source takes events again", source=self._source.name, after_h=hours)

    def _warn(self, refusals: Refusals) -> None:
        """Log what to do. If the sender is Braze, also log what is lost, and the deadline."""
        advice, until = ADVICE.get(refusals.status, OTHER_ADVICE), {}
        if refusals.deadline is not None:
            loses = refusals.status in (401, 403)
            advice = (LOST if loses else "") + advice + STOPS + ("" if loses else LATER_LOST)
            until = {"deadline": format_time(refusals.deadline)}
        log.error(
            "source has refused everything for too long",
            source=self._source.name,
            since=format_time(refusals.since),
            hours=round(_age(refusals) / HOUR_S, 1),
            status=refusals.status,
            reason=refusals.reason,
            **until,
            advice=advice,
        )


def _age(refusals: Refusals) -> float:
    return refusals.last - refusals.since


def _count_marks(age: float) -> int:
    """Count the moments of WARN_H that have passed."""
    return sum(age >= hours * HOUR_S for hours in WARN_H)
