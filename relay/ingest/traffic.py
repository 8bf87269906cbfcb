"""Counts one source's requests and events since the start."""

import time
from dataclasses import dataclass, field
from typing import Final

from relay.histogram import QUICK, Histogram

CLASSES: Final = ("2xx", "403", "429", "4xx", "5xx")
"""Statuses that are counted. 403 and 429 stand apart, because nothing is wrong with the source then."""
UNKNOWN_TYPES: Final = 100
"""Unknown event types that are remembered, at most."""


@dataclass(slots=True)
class Traffic:
    """One source's counts. They only grow."""

    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    """Requests by status or class of their answer, one of CLASSES."""
    accepted: int = 0
    """Events put into the journal."""
    unreadable: int = 0
    """Entries that were no events."""
    last: float | None = None
    """Time of the last accepted events, in Unix seconds."""
    unknown_types: dict[str, None] = field(default_factory=dict)
    """Event types that are not in the catalogue, UNKNOWN_TYPES at most."""
    ack: Histogram = field(default_factory=lambda: Histogram(QUICK))
    """Seconds from a request's headers to its 2xx."""

    def count_refused(self, status: int) -> None:
        """Count a request that was answered with an error."""
        self.requests[str(status) if str(status) in CLASSES else f"{status // 100}xx"] += 1

    def count_answered(self, seconds: float) -> None:
        """Count a request that was answered 2xx."""
        self.requests["2xx"] += 1
        self.ack.observe(seconds)

    def count_events(self, accepted: int, unreadable: int) -> None:
        """Count the kept events of a request."""
        self.unreadable += unreadable
        if accepted:
            self.accepted += accepted
            self.last = time.time()
