"""The limits of a listener's connections, and of the process's file descriptors."""

import resource
from typing import Final

from msgspec import Struct

DESCRIPTORS: Final = 65_536
"""File descriptors that relay asks the kernel for."""
LINE_BYTES: Final = 32 << 10
"""Bytes of the request line, and of one header. Load balancers add up to 16 KiB."""
HEAD_BYTES: Final = 64 << 10
"""Bytes of the request line and all headers, unless they come at once."""


class ListenerLimits(Struct, frozen=True, kw_only=True):
    """The limits of one listener. Times are in seconds."""

    head: float = 30.0
    """From the first byte of a request, or from connecting, until its headers are complete."""
    idle: float = 660.0
    """Between two requests of a connection."""
    answer: float | None = None
    """How long a client may leave an answer unread; None: without limit."""
    connections: int = 64
    """Open connections."""
    opens_ahead: bool = False
    """Whether clients open connections before they have a request, as browsers do. A connection that never gets one is
    closed without a word then."""
    table: str = ""
    """The table of conf.d with `read_timeout` and `max_connections`; empty: the limits are fixed."""

    def name_setting(self, setting: str) -> str:
        """Return a setting's full name, for the end of a reason."""
        return f" ({self.table}.{setting})" if self.table else ""


def count_descriptors() -> int:
    """Return how many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def bound_connections(wanted: int) -> int:
    """Return the connections that a listener may take. Half of the descriptors stay for everything else."""
    return min(wanted, max(1, count_descriptors() // 2))


def raise_descriptor_limit() -> None:
    """Raise the limit of file descriptors as far as the kernel allows, up to DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
