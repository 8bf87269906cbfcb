"""Whether a lane gets through to its destination, told once per change and not per attempt."""

import time
from typing import Final

import structlog

QUIET_S: Final = 60.0
"""A lane that comes and goes says so at most this often."""


class Health:
    """Log lines for one lane: failing, paused, working again."""

    def __init__(self, connector: str) -> None:
        self._log = structlog.stdlib.get_logger().bind(connector=connector)
        self._since: float | None = None
        self._told: float | None = None
        self._kind = ""
        self._paused = False

    def failed(self, reason: str, **details: object) -> None:
        """A delivery did not get through and will be tried again."""
        now = time.monotonic()
        self._since = self._since or now
        kind = reason.partition(":")[0]  # the rest may differ every time
        if self._told is None or now - self._told > QUIET_S or kind != self._kind:
            self._told, self._kind = now, kind
            self._log.warning("delivery failed, will be tried again", reason=reason, **details)

    def paused(self, reason: str, seconds: float) -> None:
        """The destination does not accept us at all."""
        self._since = self._since or time.monotonic()
        if not self._paused:
            self._paused = True
            advice = "check address and credentials; the events stay in the journal"
            self._log.error("lane paused", reason=reason, advice=advice, next_try_s=round(seconds, 1))

    def worked(self) -> None:
        """A delivery got through."""
        if self._since is None:
            return
        if self._paused or (self._told is not None and self._told >= self._since):
            self._log.info("deliveries work again", after_s=round(time.monotonic() - self._since, 1))
        self._since, self._paused = None, False
