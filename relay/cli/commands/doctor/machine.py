"""Checks the machine: its clock, and its limit of open files."""

import ctypes
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from relay.cli.commands.doctor.report import Finding, Installation
from relay.cli.format import format_time
from relay.engine import open_store

EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""relay did not exist before."""
TIMEX_BYTES: Final = 512
"""More than the size of `struct timex`."""
UNSYNCHRONISED: Final = 5
"""TIME_ERROR of adjtimex(2)."""
OTHERS: Final = 256
"""Files and connections of the journal, the database and admins."""


def check_clock(it: Installation) -> Finding:
    """Check that the time can be right, and is synchronized."""
    return judge_clock(time.time(), is_synchronised())


def judge_clock(now: float, kept: bool | None) -> Finding:
    """Judge a time (Unix seconds) and the kernel's answer on it."""
    said = format_time(now)
    advice = "timedatectl set-ntp true (retention, dedupe and signatures go by it)"
    if now < EARLIEST.timestamp():
        return Finding("problem", "clock", f"{said} cannot be", advice)
    if kept is False:
        return Finding("warning", "clock", f"{said}, but nothing keeps it right: the kernel knows of no NTP", advice)
    return Finding("ok", "clock", said + (", kept right" if kept else ", whether by NTP is not known"))


def is_synchronised() -> bool | None:
    """Return whether the kernel knows its clock to be synchronized; None if it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != UNSYNCHRONISED


def check_limits(it: Installation) -> Iterator[Finding]:
    """Check the limit of open files against the most that senders and connectors use.

    relay raises its own limit as far as it may, and gives senders half of it.
    """
    own = OTHERS + sum(connector.settings.concurrency for connector in it.config.connectors.values())
    needed = 2 * max(own, it.config.ingest.max_connections)
    try:
        process = open_store(it.state, it.config.journal).view().find_process()
        soft, hard = resource.prlimit(process or 0, resource.RLIMIT_NOFILE)
    except (OSError, ValueError):
        process = None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit, whose = (soft, f"of the relay that runs (process {process})") if process else (hard, "of this shell")
    said = f"{limit:,} {whose}, {needed:,} may be needed"
    if limit != resource.RLIM_INFINITY and limit < needed:
        yield Finding("warning", "open files", said, "LimitNOFILE= in the unit, ulimit -n in a shell")
    else:
        yield Finding("ok", "open files", said)
