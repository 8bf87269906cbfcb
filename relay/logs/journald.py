"""Priorities of lines for systemd's journal, as in sd-daemon(3), for `journalctl -p warning`."""

import os
from typing import Final

STANDARD_ERROR: Final = 2
PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def is_journal(fd: int) -> bool:
    """Return whether the descriptor leads to systemd's journal, which reads priorities."""
    try:
        about = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def find_error_prefix() -> str:
    """Return the prefix of an error line on standard error: its priority for systemd's journal, else ""."""
    return f"<{PRIORITIES['ERROR']}>" if is_journal(STANDARD_ERROR) else ""


def add_priority(text: str, level: str) -> str:
    """Put the priority before each line of a text. The journal makes each line an entry."""
    priority = f"<{PRIORITIES.get(level, 6)}>"
    return "\n".join(f"{priority}{line}" for line in text.split("\n"))
