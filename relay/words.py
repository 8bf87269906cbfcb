"""How relay writes for people, in the log and by commands: counts, what comes from outside; how long that may be."""

import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

COMMANDING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters but tab and line feed, invisible ones, what turns the direction of text, halves of characters."""

RANGES_SHOWN: Final = 10

REASON_CHARS: Final = 1000
"""Of a reason that plugins, filters or destinations give: it is kept for every event."""


def moment(unix_seconds: float) -> str:
    """A time in UTC, to the second, in the one form that relay writes and `--since` reads."""
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_span(seconds: float) -> str:
    """Format a duration for people in its two largest units."""
    whole = round(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller}{small}"
    return f"{whole}s"


def counted(number: int, noun: str) -> str:
    """So many of them: "1 event", "1,200 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ranges(found: Sequence[tuple[int, int]]) -> str:
    """Write offsets (start, stop) for people: "3, 7-9", and how many ranges more there are."""
    shown = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in found[:RANGES_SHOWN]]
    rest = len(found) - RANGES_SHOWN
    return ", ".join(shown) + (f" and {rest} more ranges" if rest > 0 else "")


def with_article(noun: str) -> str:
    """The noun behind its article, such as "an alert"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def describe_error(error: OSError) -> str:
    """What the operating system refused, in words: the file, if there is one, and why, without the number."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"


def escape(text: str) -> str:
    """Write what commands a terminal as JSON and TOML escape it."""
    return COMMANDING.sub(_escaped, text)


def escape_json(text: str) -> str:
    """Write what commands a terminal so that JSON stays the same JSON."""
    return COMMANDING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
