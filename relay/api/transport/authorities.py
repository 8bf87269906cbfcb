"""The certificate authorities of this machine, which aiohttp reads at its import: 40 to 60 ms, and 2 MB.

relay reads them when the first connection needs them. Most of its start is over then, and many relays never need them.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Deferred(ssl.SSLContext):
    """A TLS context that reads this machine's authorities before its first connection."""

    def read(self) -> None:
        """Read the authorities, and be an ordinary context from now on. Blocking: tens of milliseconds."""
        ssl.SSLContext.set_default_verify_paths(self)
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]

    def wrap_bio(self, *streams: Any, **options: Any) -> ssl.SSLObject:
        """Begin TLS on a loop's connection, with the authorities."""
        self.read()
        return self.wrap_bio(*streams, **options)

    def wrap_socket(self, *sockets: Any, **options: Any) -> ssl.SSLSocket:
        """Begin TLS on a socket, with the authorities."""
        self.read()
        return self.wrap_socket(*sockets, **options)


def import_aiohttp() -> None:
    """Import aiohttp without reading authorities. Whoever uses aiohttp's contexts gets them all the same."""
    with defer_authorities():
        import aiohttp  # noqa: F401


@contextmanager
def defer_authorities() -> Iterator[None]:
    """Have the contexts that are made in this block read this machine's authorities later: see `Deferred`."""
    read = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = _defer  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ssl.SSLContext.set_default_verify_paths = read  # type: ignore[method-assign]


def _defer(context: ssl.SSLContext) -> None:
    context.__class__ = Deferred
