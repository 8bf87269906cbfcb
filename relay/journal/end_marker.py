"""The file `end` beside the segments: the head at which a closed journal ended. A start removes it.

It gives the head for certain, whatever the database knows and whatever happens to the last segment. The file also says
in which run the journal was closed: the file of an older copy of the journal gives no head.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from relay.journal.segment import replace_text

FILE_NAME: Final = "end"


class End(Struct, frozen=True):
    """Where a journal was closed."""

    head: int
    run: int | None = None
    """The run that closed it; None: a backup."""


def write_end(folder: Path, head: int, run: int | None = None) -> None:
    """Save durably that the journal was closed with this head, in this run. Raises OSError."""
    replace_text(folder / FILE_NAME, f"{head}\n" if run is None else f"{head} {run}\n")


def remove_end(folder: Path) -> End | None:
    """Read and remove the marker; return None if the journal was not closed. Raises OSError."""
    end = read_end(folder)
    (folder / FILE_NAME).unlink(missing_ok=True)
    return end


def read_end(folder: Path) -> End | None:
    """Return where the journal was closed; None if it was not closed. Raises OSError."""
    try:
        said = (folder / FILE_NAME).read_text(errors="replace").split()
    except FileNotFoundError:
        return None
    is_good = 1 <= len(said) <= 2 and all(one.isascii() and one.isdecimal() for one in said)
    return End(*map(int, said)) if is_good else None
