"""Health of a destination: whether deliveries get through. The log reports each change, not each attempt."""

import time
from collections.abc import Callable
from math import inf
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from relay.guests import format_trace

CHECK: Final = "check address and credentials; the events stay in the journal"
MEND: Final = (
    "each event is parked: relay pause has further ones wait in the journal; relay parked show NUMBER shows one and the"
    " answer; after the repair, relay parked replay sends them again"
)
QUIET_S: Final = 60.0
"""A lane that keeps failing and recovering is logged at most this often, in seconds."""
MANY: Final = 20
"""After so many refused attempts in a row, the destination counts as refusing everything."""
FEW: Final = 3
WHILE_S: Final = 60.0
"""After FEW refused attempts in a row, the same holds if so many seconds have passed since the first."""


class Trouble(Struct, frozen=True):
    """Deliveries that do not get through, or did not until `over`. Times are Unix seconds."""

    since: float
    last: float
    """When the last delivery failed."""
    reason: str
    """The reason of the last failure."""
    status: int | None
    """The HTTP status of the destination's answer, if there was one."""
    unauthorized: float | None = None
    """Since when the destination does not accept relay; None while it is only busy or away."""
    over: float | None = None
    """When a delivery got through again."""


class LaneRefusals(Struct, frozen=True):
    """Attempts in a row at which the destination took no event and refused some for good. Times are Unix seconds."""

    attempts: int
    """How many; 0 after the destination has taken an event."""
    since: float
    last: float
    reason: str
    """The reason of the last refusal."""
    status: int | None
    """The HTTP status of the destination's answer, if there was one."""

    def is_all(self, now: float) -> bool:
        """Return whether the destination refuses everything: MANY attempts, or FEW over a while. A few bad events in a
        row do not suffice."""
        return self.attempts >= MANY or (self.attempts >= FEW and now - self.since >= WHILE_S)


class Health:
    """Health of one destination, with a log message for each change."""

    def __init__(self, connector: str) -> None:
        self._log = structlog.stdlib.get_logger().bind(connector=connector)
        self._since: float | None = None
        self._logged_at: float | None = None
        self._logged_kind = ""
        self._unauthorized = False
        self.trouble: Trouble | None = None
        """The last trouble, also when it is over."""
        self.refusals: LaneRefusals | None = None
        """The last refusals, also when they are over."""
        self.event: tuple[str, str] | None = None
        """Type and id of an event of the last attempt that failed."""
        self._is_refusing_logged = False
        self.unanswered: list[float] = []
        """When each attempt under way began, in monotonic seconds."""
        self.proof = -inf
        """When the last attempt began that got events through, in monotonic seconds."""
        self._logged_bug: tuple[str, float] = "", -inf

    @property
    def is_bad(self) -> bool:
        """Whether deliveries do not get through now."""
        return self.trouble is not None and self.trouble.over is None

    def record_failure(self, reason: str, status: int | None, **details: object) -> None:
        """Record a delivery that did not get through and is tried again."""
        now = time.monotonic()
        self._since = self._since or now
        self._update_trouble(reason, status)
        kind = reason.partition(":")[0]  # the rest may differ every time
        if self._logged_at is None or now - self._logged_at > QUIET_S or kind != self._logged_kind:
            self._logged_at, self._logged_kind = now, kind
            self._log.warning("delivery failed, will be tried again", reason=reason, **details)

    def record_unauthorized(self, reason: str, status: int | None, seconds: float) -> None:
        """Record that the destination does not accept relay. The next attempt goes in so many seconds."""
        self._since = self._since or time.monotonic()
        self._update_trouble(reason, status, unauthorized=True)
        if not self._unauthorized:
            self._unauthorized = True
            news = {"reason": reason, "advice": CHECK, "next_try_s": round(seconds, 1)}
            self._log.error("destination does not accept relay", **news)

    def _update_trouble(self, reason: str, status: int | None, *, unauthorized: bool = False) -> None:
        now, before = time.time(), self.trouble
        lasting = before is not None and before.over is None
        since, began = (before.since, before.unauthorized) if before and lasting else (now, None)
        self.trouble = Trouble(since, now, reason, status, (began or now) if unauthorized else None)

    def record_refusal(self, reason: str, status: int | None) -> None:
        """Record an attempt at which the destination took no event and refused some for good."""
        now, before = time.time(), self.refusals
        attempts, since = (before.attempts + 1, before.since) if before and before.attempts else (1, now)
        self.refusals = LaneRefusals(attempts, since, now, reason, status)
        if self.refusals.is_all(now) and not self._is_refusing_logged:
            self._is_refusing_logged = True
            self._log.error("destination refuses everything", reason=reason, attempts=attempts, advice=MEND)

    def record_delivered(self) -> None:
        """Record that the destination has taken an event."""
        if self.refusals is not None and self.refusals.attempts:
            self.refusals = replace(self.refusals, attempts=0)
        if self._is_refusing_logged:
            self._is_refusing_logged = False
            self._log.info("destination takes events again")

    def record_bug(self, what: str, error: Exception, redact: Callable[[str], str]) -> None:
        """Log that the connector has failed by a bug. The same bug is logged again, with its traceback, only after
        QUIET_S. `redact` removes from the traceback what must not be logged."""
        now, (before, logged_at) = time.monotonic(), self._logged_bug
        if what != before or now - logged_at > QUIET_S:
            self._logged_bug = what, now
            self._log.error("connector raised", exception=redact(format_trace(error)))

    def record_success(self, began: float) -> None:
        """Record a delivery that got through and began at `began`, in monotonic seconds."""
        self.proof = max(self.proof, began)
        self.record_recovery()

    def record_recovery(self) -> None:
        """Record that deliveries fail no longer, or that nothing is left to fail."""
        if self._since is None:
            return
        if self._unauthorized or (self._logged_at is not None and self._logged_at >= self._since):
            self._log.info("deliveries work again", after_s=round(time.monotonic() - self._since, 1))
        self._since, self._unauthorized = None, False
        if self.trouble is not None:
            self.trouble = replace(self.trouble, over=time.time())
