"""Formats times, sizes, tables and foreign texts for people."""

from collections.abc import Sequence

from relay import words


def format_time(unix_seconds: float | None) -> str:
    """Return a time in UTC, to the second; "-" for None."""
    return "-" if unix_seconds is None else words.format_time(unix_seconds)


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of aligned columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in rows]
