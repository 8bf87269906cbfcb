"""Finds the line of a key in a TOML text, with the standard parser and no second grammar.

A prefix of a TOML text cut at a statement boundary is itself valid TOML, and a key once defined stays defined, so the
first line of a key can be found by bisection.
"""

import tomllib
from collections.abc import Iterable, Sequence
from typing import Any


def locate(text: str, path: Sequence[str | int]) -> int | None:
    """Return the line (from 1) of the statement that first defines `path` or its nearest existing parent.

    None if the text defines not even the first key. The text must be valid TOML.
    """
    lines = [line + "\n" for line in text.split("\n")]  # splitlines() knows line ends that TOML does not
    keys = _existing(tomllib.loads(text), path)
    if not keys:
        return None
    low, high = 0, len(lines)  # the first `low` lines lack the key, the first `high` lines have it; both parse
    while found := _nearest_cut(lines, low, high):
        cut, document = found
        if len(_existing(document, keys)) == len(keys):
            high = cut
        else:
            low = cut
    return 1 + next(number for number in range(low, high) if not _is_blank(lines[number]))


def _existing(document: Any, path: Sequence[str | int]) -> list[str | int]:
    """The longest start of `path` that the document defines."""
    keys: list[str | int] = []
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            break
        keys.append(key)
    return keys


def _nearest_cut(lines: Sequence[str], low: int, high: int) -> tuple[int, dict[str, Any]] | None:
    """The statement boundary strictly between `low` and `high` that is nearest below, else above, their middle."""
    middle = (low + high) // 2
    return _first_parsed(lines, range(middle, low, -1)) or _first_parsed(lines, range(middle + 1, high))


def _first_parsed(lines: Sequence[str], cuts: Iterable[int]) -> tuple[int, dict[str, Any]] | None:
    for cut in cuts:
        try:
            return cut, tomllib.loads("".join(lines[:cut]))
        except tomllib.TOMLDecodeError:
            continue  # the cut falls inside a value of several lines
    return None


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
