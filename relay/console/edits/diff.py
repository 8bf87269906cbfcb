"""What changes in the files of the console, as a unified diff without secrets. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Final, Literal

from relay.config import hide_in_text
from relay.console.edits.tables import Files

CONTEXT: Final = 3
"""Lines around each change."""
KINDS: Final[Mapping[str, Literal["added", "removed", "place", "same"]]] = {"+": "added", "-": "removed", "@": "place"}


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a diff, with its mark in front."""

    kind: Literal["added", "removed", "place", "same"]
    text: str


@dataclass(frozen=True, slots=True)
class FileDiff:
    """What changes in a file."""

    name: str
    what: Literal["new", "changed", "removed"]
    lines: Sequence[DiffLine]


def compare_files(before: Mapping[str, str], after: Files) -> list[FileDiff]:
    """Compare files with what they would be. Files that stay the same are left out."""
    return [*_compare(before, after)]


def _compare(before: Mapping[str, str], after: Files) -> Iterator[FileDiff]:
    for name, text in sorted(after.items()):
        was = before.get(name)
        if was == text:
            continue
        lines = [*unified_diff(_split(was), _split(text), n=CONTEXT, lineterm="")][2:]
        shown = [DiffLine(KINDS.get(line[0], "same"), line) for line in lines]
        yield FileDiff(name, "new" if was is None else "removed" if text is None else "changed", shown)


def _split(text: str | None) -> list[str]:
    return [] if not text else hide_in_text(text).removesuffix("\n").split("\n")
