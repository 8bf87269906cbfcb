"""Why nothing can listen at an address, and what to do about it."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ADVICE: Final = {
    errno.EADDRINUSE: "another program listens there, `ss -ltnp` names it",
    errno.EACCES: "a port below 1024 takes AmbientCapabilities=CAP_NET_BIND_SERVICE, a path the right to write",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address, `ip address` lists them",
    errno.ENOENT: "the folder of that path is not there",
}


class ListenError(OSError):
    """Nothing can listen at an address; `key` is the setting that names the address, such as "ingest.listen"."""

    def __init__(self, key: str, address: object, error: OSError) -> None:
        reason = "this host is not known" if isinstance(error, socket.gaierror) else error.strerror or str(error)
        advice = f": {ADVICE[error.errno]}" if error.errno in ADVICE else ""
        super().__init__(error.errno, f"{address}: {reason}{advice}")
        self.key = key

    def __str__(self) -> str:
        return f"{self.key}: {self.strerror}"


@contextmanager
def at(key: str, address: object) -> Iterator[None]:
    """Raise ListenError for an OSError within."""
    try:
        yield
    except OSError as error:
        raise ListenError(key, address, error) from None
