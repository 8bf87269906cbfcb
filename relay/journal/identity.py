"""Which journal a folder holds: an id in the file `identity`, by which a database knows the journal that is its own.

A journal that is not the one of the database is not touched: its offsets mean other events. See `identify`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from relay.journal.segment import Corrupt, base_of, find_end, replace_text, segment_files
from relay.words import counted

FILE_NAME: Final = "identity"
ANY: Final = ""
"""In place of an id: the database takes the journal that it finds."""
ADVICE: Final = "mount or move the right one there (journal.path), or have relay take this one: relay accept journal"


class OtherJournal(Exception):
    """The folder does not hold the journal that the database belongs to."""


@dataclass(frozen=True, slots=True)
class KnownJournal:
    """What a database knows of its journal."""

    identity: str
    head: int
    """Events below this offset were acknowledged."""
    time: float = 0.0
    """The newest time that was trusted, in Unix seconds; 0: none."""
    unheard: int | None = None
    """While it is in doubt whether it knows all connectors: where those begin that it does not know."""
    accepted: float = 0.0
    """Unix seconds at which an admin accepted the clock; 0: never."""


def identify(folder: Path, known: KnownJournal | None) -> str:
    """The id of the journal in a folder; a new journal gets one, and one that has lost its id gets it again. Raises
    OtherJournal, OSError."""
    if why := mismatch(folder, known):
        raise OtherJournal(why)
    found = read_identity(folder)
    if found is None:
        found = (known.identity if known else ANY) or uuid4().hex
        write_identity(folder, found)
    return found


def mismatch(folder: Path, known: KnownJournal | None) -> str:
    """Why the journal in a folder cannot be the one that a database belongs to, and what to do; "" if it can be.

    A folder without an id can be, if it holds all that the database knows of. Raises OSError."""
    if known is None or known.identity == ANY:
        return ""
    found = read_identity(folder)
    if found == known.identity:
        return ""
    end = _end_of(folder)
    if found is None and end >= known.head:
        return ""
    holds = "holds no journal"
    if paths := segment_files(folder):
        holds = f"holds another journal, with offsets from {base_of(paths[0])} up to {end}"
    elif found is not None:
        holds = "holds another journal, without events"
    return f"{folder} {holds}, but relay.db belongs to one that has taken {counted(known.head, 'event')}: {ADVICE}"


def read_identity(folder: Path) -> str | None:
    """The id in a folder; None if there is none. Raises OSError."""
    try:
        return (folder / FILE_NAME).read_text(errors="replace").strip() or None
    except FileNotFoundError:
        return None


def write_identity(folder: Path, identity: str) -> None:
    """Give a folder an id, durably. Raises OSError."""
    replace_text(folder / FILE_NAME, f"{identity}\n")


def _end_of(folder: Path) -> int:
    """The offset behind the last whole record of a folder; 0 if there is none."""
    for path in reversed(segment_files(folder)):
        try:
            return find_end(path).end
        except Corrupt:
            continue
    return 0
