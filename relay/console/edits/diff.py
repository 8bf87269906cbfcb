"""What changes in the files of the console, as a unified diff without secrets; and what filters change. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from typing import Final, Literal

import msgspec

from relay.config import hide_in_text
from relay.console.edits.tables import Files
from relay.console.templates import show_content
from relay.proposal import Example
from relay.words import format_count

CONTEXT: Final = 3
"""Lines around each change."""
MOST_LINES: Final = 5000
"""Lines of a diff that are shown."""
MOST_PAIRS: Final = 100_000_000
"""Pairs of lines that are compared, at most: this takes a second or less."""
MOST_EVENT_LINES: Final = 1000
"""Lines of an event that are shown."""
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
        lines = _list_changes(_split(was), _split(text))
        shown = [DiffLine(KINDS.get(line[0], "same"), line) for line in lines[:MOST_LINES]]
        if len(lines) > MOST_LINES:
            shown.append(DiffLine("place", f"@@ {format_count(len(lines) - MOST_LINES, 'more line')} @@"))
        yield FileDiff(name, "new" if was is None else "removed" if text is None else "changed", shown)


def _list_changes(before: list[str], after: list[str]) -> list[str]:
    """Return the lines of a unified diff. Of long texts, all lines after the first difference count as replaced: to
    compare them would take minutes."""
    same = next((number for number, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), 0)
    removed, added = before[same:], after[same:]
    if len(removed) * len(added) <= MOST_PAIRS:
        return [*unified_diff(before, after, n=CONTEXT, lineterm="")][2:]
    head = f"@@ -{same + 1},{len(removed)} +{same + 1},{len(added)} @@"
    return [head, *(f"-{line}" for line in removed), *(f"+{line}" for line in added)]


def show_example(example: Example) -> list[DiffLine]:
    """Return the lines of an event as a connector would get it, and those that filters take away. A comma behind a line
    is no difference."""
    now = _indent(example.event)
    was = _indent(example.before) if example.changed else now
    found: list[DiffLine] = []
    old, new = ([line.rstrip(",") for line in lines] for lines in (was, now))
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for what, begin, end, first, last in matcher.get_opcodes():
        if what == "equal":
            found += [DiffLine("same", f" {line}") for line in now[first:last]]
            continue
        found += [DiffLine("removed", f"-{line}") for line in was[begin:end]]
        found += [DiffLine("added", f"+{line}") for line in now[first:last]]
    return found


def _indent(event: msgspec.Raw) -> list[str]:
    content = bytes(event)
    with suppress(msgspec.DecodeError, RecursionError):  # what is nested very deep stays on one line
        content = msgspec.json.format(content, indent=2)
    lines = show_content(content).split("\n")
    rest = len(lines) - MOST_EVENT_LINES
    return lines if rest <= 0 else [*lines[:MOST_EVENT_LINES], f"... ({format_count(rest, 'more line')})"]


def _split(text: str | None) -> list[str]:
    return [] if not text else hide_in_text(text).removesuffix("\n").split("\n")
