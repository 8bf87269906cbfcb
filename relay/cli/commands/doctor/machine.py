"""Checks of the machine: its clock, and what a process may open."""

import ctypes
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from relay.cli.commands.doctor.report import Finding, Installation
from relay.cli.format import moment
from relay.journal import read_holder

EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""relay was not there before."""
TIMEX_BYTES: Final = 512
"""More than `struct timex` has."""
UNSYNCHRONISED: Final = 5
"""What adjtimex(2) calls TIME_ERROR."""
OTHERS: Final = 256
"""Files and connections beside those of senders and to destinations: the journal, the database, admins."""


def clock(it: Installation) -> Finding:
    """Whether the time can be right, and is kept right."""
    return judge(time.time(), synchronised())


def judge(now: float, kept: bool | None) -> Finding:
    """Say what a time (Unix seconds) and the kernel's word on it mean."""
    said = moment(now)
    advice = "timedatectl set-ntp true (retention, dedupe and signatures go by it)"
    if now < EARLIEST.timestamp():
        return Finding("problem", "clock", f"{said} cannot be", advice)
    if kept is False:
        return Finding("warning", "clock", f"{said}, but nothing keeps it right: the kernel knows of no NTP", advice)
    return Finding("ok", "clock", said + (", kept right" if kept else ", whether by NTP is not known"))


def synchronised() -> bool | None:
    """Whether the kernel knows its clock to be kept right; None if it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != UNSYNCHRONISED


def limits(it: Installation) -> Iterator[Finding]:
    """Whether as many files and connections may be open as senders and connectors use at most; relay raises its own
    limit as far as it may, and lets senders have half of it."""
    own = OTHERS + sum(connector.settings.concurrency for connector in it.config.connectors.values())
    needed = 2 * max(own, it.config.ingest.max_connections)
    try:
        process = read_holder(it.state)
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
