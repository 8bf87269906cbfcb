"""Formats counts, times, errors and foreign texts for people, in the log and in commands."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, Final

COMMANDING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Matches control characters except tab and line feed, invisible characters, changes of direction, lone surrogates."""

RANGES_SHOWN: Final = 10
SIZES_SHOWN: Final = 4
LEAST_BYTES: Final = 64 << 10
UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

REASON_CHARS: Final = 1000
"""Characters kept of the reason that a plugin, filter or destination gives: relay keeps the reason of every event."""


def format_time(unix_seconds: float) -> str:
    """Format a time in UTC, to the second, in the one form that relay writes and `--since` reads."""
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_span(seconds: float) -> str:
    """Format a duration for people in its two largest units."""
    whole = round(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller}{small}"
    return f"{whole}s"


def format_count(number: int, noun: str) -> str:
    """Write a count with its noun: "1 event", "1,200 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shorten(found: Sequence[str], most: int) -> list[str]:
    """Return the first `most` of these, and as the last how many more there are: "and 3 more"."""
    return [*found[:most], *([f"and {len(found) - most:,} more"] if len(found) > most else [])]


def format_ranges(found: Sequence[tuple[int, int]]) -> str:
    """Write the first RANGES_SHOWN ranges of offsets (start, stop), and how many ranges follow: "3, 7-9"."""
    shown = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in found[:RANGES_SHOWN]]
    rest = len(found) - RANGES_SHOWN
    return ", ".join(shown) + (f" and {rest} more ranges" if rest > 0 else "")


def format_largest(sizes: Mapping[str, int]) -> str:
    """Format the first few of these sizes in bytes, such as "archive 12.1 GiB, journal 1.0 GiB", without small ones.

    `sizes`: by what takes the bytes, the largest first.
    """
    large = [(name, amount) for name, amount in sizes.items() if amount >= LEAST_BYTES]
    said = []
    for name, amount in large[:SIZES_SHOWN]:
        size, unit = next((one for one in UNITS if amount >= one[0]), UNITS[-1])
        said.append(f"{name} {amount / size:.1f} {unit}")
    return ", ".join(said)


def format_size(amount: float) -> str:
    """Format bytes in the largest unit of which there is at least one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def add_article(noun: str) -> str:
    """Put the article before a noun: "an alert"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def describe_error(error: OSError) -> str:
    """Describe an error of the operating system: the file, if there is a file, and the reason, without the number."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"


def escape_text(text: str) -> str:
    """Escape a foreign text so that it cannot command the terminal."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def escape(text: str) -> str:
    """Escape what commands a terminal, as JSON and TOML do."""
    return COMMANDING.sub(_escape_character, text)


def _escape_character(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_json(text: str) -> str:
    """Escape what commands a terminal in a JSON text. The JSON keeps its meaning."""
    return COMMANDING.sub(lambda found: json.dumps(found[0])[1:-1], text)


def format_toml_key(path: tuple[str | int, ...]) -> str:
    """Format a key path as TOML, with quotes where they are needed."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else format_toml(part) for part in map(str, path))


def format_toml(value: Any) -> str:
    """Format plain data as a TOML value on one line. What commands a terminal is escaped."""
    match value:
        case dict():
            inner = ", ".join(f"{format_toml_key((key,))} = {format_toml(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list():
            return f"[{', '.join(map(format_toml, value))}]"
        case float():
            return repr(value)
        case date() | time():  # a datetime is a date
            return value.isoformat()
    return escape(json.dumps(value, ensure_ascii=False))


def format_toml_table(path: tuple[str | int, ...], values: Mapping[str, Any]) -> str:
    """Format a table as the text of a file, with a line for each of its keys."""
    lines = [f"{format_toml_key((key,))} = {format_toml(value)}" for key, value in values.items()]
    return "\n".join([f"[{format_toml_key(path)}]", *lines, ""])


def format_setting(value: Any) -> str:
    """Format the value of a setting as TOML, a whole number without its fraction."""
    if isinstance(value, list):
        return f"[{', '.join(map(format_setting, value))}]"
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else format_toml(value)
