"""How counts are written for people, in the log and by commands; how long what others say may be."""

from typing import Final

REASON_CHARS: Final = 1000
"""Of a reason that plugins, filters or destinations give: it is kept for every event."""


def counted(number: int, noun: str) -> str:
    """So many of them: "1 event", "1,200 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
