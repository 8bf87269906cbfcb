"""The error of an address that cannot be listened at, with advice."""

import errno
import os
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
    """Raised when nothing can listen at an address. `key`: the setting with the address, such as "ingest.listen"."""

    def __init__(self, key: str, address: object, error: OSError | UnicodeError) -> None:
        number = error.errno if isinstance(error, OSError) else None
        if number is None or isinstance(error, socket.gaierror):
            reason = "this host is not known"
        else:
            reason = ": ".join(filter(None, [os.strerror(number), ADVICE.get(number)]))
        super().__init__(number, f"{address}: {reason}")
        self.key = key

    def __str__(self) -> str:
        return f"{self.key}: {self.strerror}"


@contextmanager
def convert_errors(key: str, address: object) -> Iterator[None]:
    """Raise ListenError for errors within the block; a name that cannot be a host's is a UnicodeError."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise ListenError(key, address, error) from None
