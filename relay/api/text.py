"""Texts from outside: cut to a length that fits, and compared with known words."""

from bisect import bisect
from collections.abc import Iterable
from typing import Final

MORE: Final = "…"
"""The end of a text that was cut."""
NEIGHBOURS: Final = 10
"""Neighbours in the alphabet, before and behind, that a word is compared with among more than MANY known words."""
MANY: Final = 200
LONG: Final = 100
"""Nobody meant a word of so many characters."""


def cut(text: str, most: int) -> str:
    """Cut a text to this many characters at most, between two words if possible. A cut text ends with MORE."""
    if len(text) <= most:
        return text
    head = text[: most - len(MORE)]
    space = head.rfind(" ")
    if space > most // 2 and not text[len(head)].isspace():
        head = head[:space]
    return head.rstrip() + MORE


def find_closest(word: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that was perhaps meant; None without any. `cutoff`: how alike they must be, from 0 to 1."""
    from difflib import get_close_matches  # late: a start without mistakes does without it

    text, words = str(word), list(known)
    if len(text) > LONG:
        return None
    if len(words) > MANY:
        words.sort()
        middle = bisect(words, text)
        words = words[max(0, middle - NEIGHBOURS) : middle + NEIGHBOURS]
    folded = {word.lower(): word for word in words}
    return next((folded[one] for one in get_close_matches(text.lower(), folded, n=1, cutoff=cutoff)), None)
