"""Which path was meant by a request that came to none, and what of its path may be told."""

import re
from collections.abc import Iterable
from typing import Final

SEGMENT: Final = re.compile("([A-Z]?[a-z_-]{1,20}|v[0-9]{1,2}|)")
"""A segment as sources have them. Anything else may be a token, or whose data it is."""
PATH_CHARACTERS: Final = 200
"""Of a path that are looked at."""


def meant(path: str, known: Iterable[str]) -> str | None:
    """The known path that differs from this one in slashes, blanks or capitals, or by what a proxy puts before it."""
    asked = _plain(path[:PATH_CHARACTERS])
    return next((one for one in known if f"/{asked}".endswith(f"/{_plain(one)}")), None)


def harmless(path: str) -> str:
    """The path, without the segments that no source would have."""
    return "/".join(one if SEGMENT.fullmatch(one) else "…" for one in path[:PATH_CHARACTERS].split("/"))


def _plain(path: str) -> str:
    return "/".join(filter(None, path.strip().lower().split("/")))
