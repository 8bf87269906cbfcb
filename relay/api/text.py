"""Texts from outside, cut to a length that fits."""

from typing import Final

MORE: Final = "…"
"""What a text ends with that was cut."""


def cut(text: str, most: int) -> str:
    """The text in so many characters at most; a longer one is cut between two words, and ends with MORE."""
    if len(text) <= most:
        return text
    head = text[: most - len(MORE)]
    space = head.rfind(" ")
    if space > most // 2 and not text[len(head)].isspace():
        head = head[:space]
    return head.rstrip() + MORE
