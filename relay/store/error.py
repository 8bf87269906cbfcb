"""The errors of the store, with words for an admin."""

import errno
from typing import Literal

UnavailableReason = Literal["", "busy", "full", "damaged", "missing", "denied", "older", "taken"]
"""What callers must tell apart.

busy: somebody else works with the store; full: no room; damaged: what is stored cannot be read; missing: nothing is
there; denied: no permission; older: the store is of an older relay, and the next start updates it; taken: another relay
works with it now, and this one is to write no more.
"""


class Unavailable(OSError):
    """Raised when the store cannot do that now. Nothing has changed then. The text says what is wrong, and where.

    An OSError: who handles a failing disk handles this, too.
    """

    is_logged = False
    """Whether the store has logged that it is away. It logs when it is back, and callers need not log either."""

    def __init__(self, text: str, reason: UnavailableReason = "") -> None:
        super().__init__(text)
        self.reason = reason


def is_logged(error: BaseException) -> bool:
    """Return whether the store has logged why it is away. Of a group of errors, it must have logged each."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_logged, error.exceptions))
    return isinstance(error, Unavailable) and error.is_logged


class TooLarge(Exception):
    """Raised when the log can never take so many bytes at once."""


def find_disk_reason(error: OSError) -> UnavailableReason:
    """Return what callers must know of an error of the disk."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, PermissionError):
        return "denied"
    return "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
