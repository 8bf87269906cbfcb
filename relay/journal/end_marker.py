"""The file `end` beside the segments: the head at which a closed journal ended. A start removes it.

It gives the head for certain, whatever the database knows and whatever happens to the last segment.
"""

from pathlib import Path
from typing import Final

from relay.journal.segment import replace_text

FILE_NAME: Final = "end"


def write_end(folder: Path, head: int) -> None:
    """Save durably that the journal was closed with this head. Raises OSError."""
    replace_text(folder / FILE_NAME, f"{head}\n")


def remove_end(folder: Path) -> int | None:
    """Read and remove the marker; return the head, or None if the journal was not closed. Raises OSError."""
    end = read_end(folder)
    (folder / FILE_NAME).unlink(missing_ok=True)
    return end


def read_end(folder: Path) -> int | None:
    """Return the head with which the journal was closed; None if it was not closed. Raises OSError."""
    try:
        said = (folder / FILE_NAME).read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    return int(said) if said.isascii() and said.isdecimal() else None
