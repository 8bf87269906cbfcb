"""Turns the errors of the disk into the error of the store."""

from collections.abc import Iterator
from contextlib import contextmanager

from relay.store import Unavailable, find_disk_reason


@contextmanager
def convert_disk_errors() -> Iterator[None]:
    """Raise as Unavailable what goes wrong with files in the body."""
    try:
        yield
    except OSError as error:
        raise make_unavailable(error) from error


def make_unavailable(error: BaseException) -> Unavailable:
    """Make the error that the journal raises when its files fail. The text leaves out the number of the error."""
    if isinstance(error, Unavailable):
        return error
    if not isinstance(error, OSError) or not error.strerror:
        return Unavailable(str(error))
    file = f": {error.filename}" if error.filename else ""
    return Unavailable(f"{error.strerror}{file}", find_disk_reason(error))
