"""The admin socket, and unix sockets at paths that are longer than the kernel takes in an address."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOCKET: Final = "admin.sock"
"""The name of the admin API's socket in the state folder."""
LONGEST: Final = 107
"""Bytes of a path in the address of a unix socket: unix(7) has 108, of which a zero ends it."""


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address that leads to this path while the block lasts, for binding and for connecting.

    Of a long path it goes by way of a descriptor of the folder. Raises OSError if that cannot be opened."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
