"""Where a journal ended when it was closed: the file `end` beside its segments, which is gone while it is written to.

With it the head is known for certain, whatever the database knows and whatever happens to the last segment.
"""

from pathlib import Path
from typing import Final

from relay.journal.segment import replace_text

FILE_NAME: Final = "end"


def write_end(folder: Path, head: int) -> None:
    """Note that the journal was closed with this head, durably. Raises OSError."""
    replace_text(folder / FILE_NAME, f"{head}\n")


def take_end(folder: Path) -> int | None:
    """The same, and it no longer counts from now on. Raises OSError."""
    end = read_end(folder)
    (folder / FILE_NAME).unlink(missing_ok=True)
    return end


def read_end(folder: Path) -> int | None:
    """The head with which the journal was closed; None if it was not closed. Raises OSError."""
    try:
        said = (folder / FILE_NAME).read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    return int(said) if said.isascii() and said.isdecimal() else None
