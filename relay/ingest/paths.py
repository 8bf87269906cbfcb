"""Guesses the right path of a request to an unknown path, and masks paths for the log."""

import re
from collections.abc import Iterable
from typing import Final

SEGMENT: Final = re.compile("([A-Z]?[a-z_-]{1,20}|v[0-9]{1,2}|)")
"""A usual segment of a source's path. Any other segment may be a token, or name a person."""
PATH_CHARACTERS: Final = 200
"""Characters of a path that are read."""


def guess_path(path: str, known: Iterable[str]) -> str | None:
    """Return the known path that differs in slashes, blanks, capitals or a proxy's prefix only; None without any."""
    asked = _normalize(path[:PATH_CHARACTERS])
    return next((one for one in known if f"/{asked}".endswith(f"/{_normalize(one)}")), None)


def mask_path(path: str) -> str:
    """Return the path without unusual segments."""
    return "/".join(one if SEGMENT.fullmatch(one) else "…" for one in path[:PATH_CHARACTERS].split("/"))


def _normalize(path: str) -> str:
    return "/".join(filter(None, path.strip().lower().split("/")))
