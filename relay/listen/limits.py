"""What one listener grants its connections, and how many of them the process has file descriptors for."""

import resource
from dataclasses import dataclass
from typing import Final

DESCRIPTORS: Final = 65_536
"""What relay asks of the kernel, if it may have as many."""
LINE_BYTES: Final = 32 << 10
"""Of the request line, and of one header; load balancers add up to 16 KiB."""
HEAD_BYTES: Final = 64 << 10
"""Of the request line and all headers, unless they come at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """Of one listener. Times are in seconds."""

    head: float = 30.0
    """From the first byte of a request, or from connecting, until its headers are complete."""
    idle: float = 660.0
    """Between two requests of a connection."""
    answer: float | None = None
    """How long a client may leave an answer unread; None: as long as it likes."""
    connections: int = 64
    """Open at a time."""
    table: str = ""
    """The table of conf.d that has the settings `read_timeout` and `max_connections`; empty: the limits are fixed."""

    def named(self, setting: str) -> str:
        """A setting, for a reason that ends with it."""
        return f" ({self.table}.{setting})" if self.table else ""


def descriptors() -> int:
    """How many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def connections_within(wanted: int) -> int:
    """The connections that a listener takes: half of the descriptors are kept for deliveries, admins and journal."""
    return min(wanted, max(1, descriptors() // 2))


def raise_descriptor_limit() -> None:
    """Take as many file descriptors as the kernel lets this process have, up to DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
