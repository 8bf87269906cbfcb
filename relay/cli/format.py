"""Formats times, sizes, tables and foreign texts for people."""

from collections.abc import Sequence

from relay import words


def format_time(unix_seconds: float | None) -> str:
    """Return a time in UTC, to the second; "-" for None."""
    return "-" if unix_seconds is None else words.format_time(unix_seconds)


def format_size(amount: float) -> str:
    """Format bytes in the largest unit of which there is at least one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of aligned columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in rows]


def escape_text(text: str) -> str:
    """Escape a foreign text so that it cannot command the terminal."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
