"""The identity of the journal in a folder: an id in the file `identity`, which the database of the journal knows, too.

relay does not touch a journal that is not the database's, because its offsets mean other events. See `identify`.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from msgspec import Struct

from relay.journal.segment import Corrupt, find_end, list_segment_files, parse_base, replace_text
from relay.words import format_count

FILE_NAME: Final = "identity"
ANY: Final = ""
"""In place of an id: the database accepts any journal."""
ADVICE: Final = "mount or move the right one there (journal.path), or have relay take this one: relay accept journal"
COPY_ADVICE: Final = "if it is an older copy of the right one, have connectors go on in it: echo {} > {}; else "


class OtherJournal(Exception):
    """Raised when the folder holds another journal than the database's."""


class KnownJournal(Struct, frozen=True):
    """What a database knows of its journal."""

    identity: str
    head: int
    """Events below this offset were acknowledged."""
    time: float = 0.0
    """The newest trusted time in Unix seconds; 0 without any."""
    unheard: int | None = None
    """The offset at which unknown connectors begin, while the database may lack connectors."""
    accepted: float = 0.0
    """The time at which an admin accepted the clock, in Unix seconds; 0: never."""
    run: int = 0
    """The number of starts with the journal."""
    is_closed: bool = False
    """Whether the last run has closed the journal, so that `head` is its end for certain."""


def identify(folder: Path, known: KnownJournal | None) -> str:
    """Return the id of the journal in a folder. A new journal gets an id, and a journal without its id gets it again.

    Raises OtherJournal, OSError.
    """
    if why := describe_mismatch(folder, known):
        raise OtherJournal(why)
    found = read_identity(folder)
    if found is None:
        found = (known.identity if known else ANY) or uuid4().hex
        write_identity(folder, found)
    return found


def describe_mismatch(folder: Path, known: KnownJournal | None) -> str:
    """Describe why the journal in a folder cannot be the database's, and what to do; return "" if it can be.

    A folder without an id is accepted if it holds all events that the database knows. Raises OSError.
    """
    if known is None or known.identity == ANY:
        return ""
    found = read_identity(folder)
    if found == known.identity:
        return ""
    end, paths = find_journal_end(folder), list_segment_files(folder)
    if found is None and end >= known.head:
        return ""
    holds, advice = "holds no journal", ADVICE
    if paths and found is None:
        holds = f"holds a journal without its file {FILE_NAME}, with offsets from {parse_base(paths[0])} up to {end}"
        advice = COPY_ADVICE.format(known.identity, folder / FILE_NAME) + ADVICE
    elif paths:
        holds = f"holds another journal, with offsets from {parse_base(paths[0])} up to {end}"
    elif found is not None:
        holds = "holds another journal, without events"
    return f"{folder} {holds}, but relay.db belongs to one that has taken {format_count(known.head, 'event')}: {advice}"


def find_journal_end(folder: Path) -> int:
    """Find the offset behind the last whole record of a journal; 0 without any. Raises OSError."""
    for path in reversed(list_segment_files(folder)):
        with suppress(Corrupt):
            return find_end(path).end
    return 0


def make_empty_journal(folder: Path, identity: str, like: Path) -> None:
    """Make an empty journal with this id in a folder without events, for the owner of the folder `like`. Raises
    OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_identity(folder, identity)
    if os.geteuid() == 0:  # relay's own user has to write what root makes
        about = like.stat()
        for path in (folder, folder / FILE_NAME):
            os.chown(path, about.st_uid, about.st_gid)


def read_identity(folder: Path) -> str | None:
    """Return the id in a folder; None without an id. Raises OSError."""
    try:
        return (folder / FILE_NAME).read_text(errors="replace").strip() or None
    except FileNotFoundError:
        return None


def write_identity(folder: Path, identity: str) -> None:
    """Give a folder an id, durably. Raises OSError."""
    replace_text(folder / FILE_NAME, f"{identity}\n")
