"""Which path was meant by a request that came to none."""

from collections.abc import Iterable


def meant(path: str, known: Iterable[str]) -> str | None:
    """The known path that differs from this one in slashes, blanks or capitals, or by what a proxy puts before it."""
    asked = _plain(path)
    return next((one for one in known if f"/{asked}".endswith(f"/{_plain(one)}")), None)


def _plain(path: str) -> str:
    return "/".join(filter(None, path.strip().lower().split("/")))
