"""Whether a lane gets through to its destination, told once per change and not per attempt."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final

import structlog

QUIET_S: Final = 60.0
"""A lane that comes and goes says so at most this often."""


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
    paused: float | None = None
    """Since when the destination does not accept us at all; None: it is only busy, or away."""
    over: float | None = None
    """When a delivery got through again."""


class Health:
    """Log lines for one lane: failing, paused, working again."""

    def __init__(self, connector: str) -> None:
        self._log = structlog.stdlib.get_logger().bind(connector=connector)
        self._since: float | None = None
        self._told: float | None = None
        self._kind = ""
        self._paused = False
        self.trouble: Trouble | None = None
        """The last one, whether it is over or not."""
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

    def paused(self, reason: str, status: int | None, seconds: float) -> None:
        """The destination does not accept us at all."""
        self._since = self._since or time.monotonic()
        self._note(reason, status, paused=True)
        if not self._paused:
            self._paused = True
            advice = "check address and credentials; the events stay in the journal"
            self._log.error("lane paused", reason=reason, advice=advice, next_try_s=round(seconds, 1))

    def _note(self, reason: str, status: int | None, *, paused: bool = False) -> None:
        now, before = time.time(), self.trouble
        lasting = before is not None and before.over is None
        since, began = (before.since, before.paused) if before and lasting else (now, None)
        self.trouble = Trouble(since, now, reason, status, (began or now) if paused else None)

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
        if self._paused or (self._told is not None and self._told >= self._since):
            self._log.info("deliveries work again", after_s=round(time.monotonic() - self._since, 1))
        self._since, self._paused = None, False
        if self.trouble is not None:
            self.trouble = replace(self.trouble, over=time.time())
