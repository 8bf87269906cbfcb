"""Whether a lane gets through to its destination, told once per change and not per attempt."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

import structlog

CHECK: Final = "check address and credentials; the events stay in the journal"
MEND: Final = (
    "each event is parked: relay pause has further ones wait in the journal; relay parked show NUMBER shows one and the"
    " answer; once that is mended, relay parked replay sends them again"
)
QUIET_S: Final = 60.0
"""A lane that comes and goes says so at most this often."""
MANY: Final = 20
"""Attempts that were refused one after the other: the destination refuses everything."""
FEW: Final = 3
WHILE_S: Final = 60.0
"""The same of FEW attempts, if nothing was delivered for so many seconds since the first."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Deliveries that do not get through, or did not until `over`. Times are Unix seconds."""

    since: float
    last: float
    """When the last one failed."""
    reason: str
    """Of the last failure."""
    status: int | None
    """What the destination answered, if it did over HTTP."""
    unauthorized: float | None = None
    """Since when the destination does not accept us at all; None: it is only busy, or away."""
    over: float | None = None
    """When a delivery got through again."""


@dataclass(frozen=True, slots=True)
class LaneRefusals:
    """Attempts one after the other at which the destination took no event and refused some for good. Times are Unix
    seconds."""

    attempts: int
    """0: the destination has taken an event since."""
    since: float
    last: float
    reason: str
    """Of the last refusal."""
    status: int | None
    """What the destination answered, if it did over HTTP."""

    def is_all(self, now: float) -> bool:
        """Whether it refuses everything: so many attempts, or fewer over a while. A few bad events in a row are not
        yet that."""
        return self.attempts >= MANY or (self.attempts >= FEW and now - self.since >= WHILE_S)


class Health:
    """Log lines for one lane: failing, unauthorized, refusing, working again."""

    def __init__(self, connector: str) -> None:
        self._log = structlog.stdlib.get_logger().bind(connector=connector)
        self._since: float | None = None
        self._told: float | None = None
        self._kind = ""
        self._unauthorized = False
        self.trouble: Trouble | None = None
        """The last one, whether it is over or not."""
        self.refusals: LaneRefusals | None = None
        """The last ones, whether they are over or not."""
        self.event: tuple[str, str] | None = None
        """Type and id of one of the events of the last attempt that failed."""
        self._refusing_told = False
        self.unanswered: list[float] = []
        """When the attempts under way began, in monotonic seconds."""
        self.proof = -inf
        """When the last delivery began that got through, in monotonic seconds."""
        self._raised: tuple[str, float] = "", -inf

    @property
    def is_bad(self) -> bool:
        """Whether deliveries do not get through now."""
        return self.trouble is not None and self.trouble.over is None

    def failed(self, reason: str, status: int | None, **details: object) -> None:
        """A delivery did not get through and will be tried again."""
        now = time.monotonic()
        self._since = self._since or now
        self._note(reason, status)
        kind = reason.partition(":")[0]  # the rest may differ every time
        if self._told is None or now - self._told > QUIET_S or kind != self._kind:
            self._told, self._kind = now, kind
            self._log.warning("delivery failed, will be tried again", reason=reason, **details)

    def unauthorized(self, reason: str, status: int | None, seconds: float) -> None:
        """The destination does not accept us at all."""
        self._since = self._since or time.monotonic()
        self._note(reason, status, unauthorized=True)
        if not self._unauthorized:
            self._unauthorized = True
            news = {"reason": reason, "advice": CHECK, "next_try_s": round(seconds, 1)}
            self._log.error("destination does not accept relay", **news)

    def _note(self, reason: str, status: int | None, *, unauthorized: bool = False) -> None:
        now, before = time.time(), self.trouble
        lasting = before is not None and before.over is None
        since, began = (before.since, before.unauthorized) if before and lasting else (now, None)
        self.trouble = Trouble(since, now, reason, status, (began or now) if unauthorized else None)

    def refused(self, reason: str, status: int | None) -> None:
        """An attempt has ended at which the destination took no event, and refused some for good."""
        now, before = time.time(), self.refusals
        attempts, since = (before.attempts + 1, before.since) if before and before.attempts else (1, now)
        self.refusals = LaneRefusals(attempts, since, now, reason, status)
        if self.refusals.is_all(now) and not self._refusing_told:
            self._refusing_told = True
            self._log.error("destination refuses everything", reason=reason, attempts=attempts, advice=MEND)

    def delivered(self) -> None:
        """The destination has taken an event."""
        if self.refusals is not None and self.refusals.attempts:
            self.refusals = replace(self.refusals, attempts=0)
        if self._refusing_told:
            self._refusing_told = False
            self._log.info("destination takes events again")

    def raised(self, what: str, trace: Callable[[], str]) -> None:
        """The connector has failed by a bug. The same one is told again, with its traceback, only after a while."""
        now, (before, told) = time.monotonic(), self._raised
        if what != before or now - told > QUIET_S:
            self._raised = what, now
            self._log.error("connector raised", exception=trace())

    def worked(self, began: float) -> None:
        """A delivery got through that began then, in monotonic seconds."""
        self.proof = max(self.proof, began)
        self.mended()

    def mended(self) -> None:
        """What deliveries failed by is over, or there are none left to fail."""
        if self._since is None:
            return
        if self._unauthorized or (self._told is not None and self._told >= self._since):
            self._log.info("deliveries work again", after_s=round(time.monotonic() - self._since, 1))
        self._since, self._unauthorized = None, False
        if self.trouble is not None:
            self.trouble = replace(self.trouble, over=time.time())
