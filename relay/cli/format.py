"""How commands write times, sizes, tables and words from outside for people."""

from collections.abc import Sequence

from relay import words


def moment(unix_seconds: float | None) -> str:
    """A time in UTC, to the second."""
    return "-" if unix_seconds is None else words.moment(unix_seconds)


def size(amount: float) -> str:
    """Bytes in the largest unit that leaves one in front of the point."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in rows]


def printable(text: str) -> str:
    """Text from outside must not command the terminal."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
