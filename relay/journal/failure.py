"""Turns the errors of the disk into the error of the store."""

import errno
from typing import Final

from relay.store import Unavailable, UnavailableReason

REASONS: Final[dict[int | None, UnavailableReason]] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.ENOENT: "missing",
    errno.ESTALE: "missing",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
}


def make_unavailable(error: BaseException) -> Unavailable:
    """Make the error that the journal raises when its files fail. The text leaves out the number of the error."""
    if not isinstance(error, OSError) or not error.strerror:
        return Unavailable(str(error))
    file = f": {error.filename}" if error.filename else ""
    return Unavailable(f"{error.strerror}{file}", REASONS.get(error.errno, ""))
