"""Headers of a request that its sender cannot choose. Pure."""

from collections.abc import Iterable
from typing import Final

FRAMING_HEADERS: Final = {
    *("connection", "keep-alive", "proxy-connection", "upgrade", "expect", "te", "trailer"),
    *("content-length", "transfer-encoding"),
}
"""In lower case: they say where a request ends and what becomes of its connection, which relay alone knows."""


def check_headers(names: Iterable[str]) -> None:
    """Raise ValueError if one of these headers frames a request, such as Content-Length."""
    for name in names:
        if name.lower() in FRAMING_HEADERS:
            raise ValueError(f"the header {name} cannot be set: relay sets what says where a request ends")
