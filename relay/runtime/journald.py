"""Priorities of lines for systemd's journal, as sd-daemon(3) has them: `journalctl -p warning` goes by these."""

import os
from typing import Final

STANDARD_ERROR: Final = 2
PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def is_journal(fd: int) -> bool:
    """Whether what is written to the descriptor goes to the journal, which reads priorities there."""
    try:
        about = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def error_mark() -> str:
    """What a line of an error begins with on standard error: its priority if that is the journal, else nothing."""
    return f"<{PRIORITIES['ERROR']}>" if is_journal(STANDARD_ERROR) else ""


def prefixed(text: str, level: str) -> str:
    """The text with the priority in front of each line; the journal takes each for an entry of its own."""
    priority = f"<{PRIORITIES.get(level, 6)}>"
    return "\n".join(f"{priority}{line}" for line in text.split("\n"))
