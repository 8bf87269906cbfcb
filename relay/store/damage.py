"""Unreadable events of a journal. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from relay.words import format_count, format_ranges


class Damage(Struct, frozen=True):
    """The unreadable events from offset `start` up to `stop`."""

    start: int
    stop: int
    file: str
    """The segment's name."""
    reason: str
    saved: int | None
    """Events of the file that a repair can save; None: nothing to repair."""


def merge_overlapping(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge overlapping ranges."""
    end = -1
    for start, stop in sorted(ranges):
        if stop > end:
            yield max(start, end), stop
            end = stop


SHOWN: Final = 3
AT_MOST: Final = "at most "
"""Stands before a number of events that is an upper bound."""


def describe_damage(found: Sequence[Damage], *, is_bound: bool = False) -> str:
    """Describe damage in a sentence; "" without any. `is_bound`: some offsets may belong to no event."""
    if not found:
        return ""
    files = {one.file: [each for each in found if each.file == one.file] for one in found}
    events = sum(stop - start for start, stop in merge_overlapping((one.start, one.stop) for one in found))
    parts = []
    for file, its in [*files.items()][:SHOWN]:
        offsets = format_ranges([*merge_overlapping((one.start, one.stop) for one in its)])
        saved = [one.saved for one in its if one.saved is not None]
        others = (
            f"; the file's {format_count(max(saved), 'other event')} can be read and are delivered" if saved else ""
        )
        parts.append(f"offsets {offsets} in {file} ({its[0].reason}{others})")
    if (more := len(files) - SHOWN) > 0:
        parts.append(f"and in {format_count(more, 'more file')}")
    most = AT_MOST if is_bound else ""
    return f"{most}{format_count(events, 'event')} cannot be read: {'; '.join(parts)}"


def is_bound(said: str) -> bool:
    """Return whether a sentence of `describe_damage` gives an upper bound, not a count."""
    return said.startswith(AT_MOST)
