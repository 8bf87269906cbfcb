"""What one source has taken and refused since the start: counted per request."""

import time
from dataclasses import dataclass, field
from typing import Final

from relay.histogram import QUICK, Histogram

CLASSES: Final = ("2xx", "403", "429", "4xx", "5xx")
"""Who is not allowed and who sends too fast are told apart: nothing is wrong with the source then."""
UNKNOWN_TYPES: Final = 100
"""However many types a sender invents."""


@dataclass(slots=True)
class Traffic:
    """Counts that only grow."""

    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    """By the status of their answer or its class, one of CLASSES."""
    accepted: int = 0
    """Events that are in the journal now."""
    unreadable: int = 0
    """Entries of a body that were no events."""
    last: float | None = None
    """Unix seconds at which events were accepted last."""
    unknown_types: dict[str, None] = field(default_factory=dict)
    """Event types that came and are not in the catalogue, up to UNKNOWN_TYPES."""
    ack: Histogram = field(default_factory=lambda: Histogram(QUICK))
    """Seconds from a request's headers to its 2xx."""

    def refused(self, status: int) -> None:
        """A request was answered with an error."""
        self.requests[str(status) if str(status) in CLASSES else f"{status // 100}xx"] += 1

    def answered(self, seconds: float) -> None:
        """A request was answered 2xx."""
        self.requests["2xx"] += 1
        self.ack.observe(seconds)

    def took(self, accepted: int, unreadable: int) -> None:
        """So many events of a request were kept."""
        self.unreadable += unreadable
        if accepted:
            self.accepted += accepted
            self.last = time.time()
