"""What systemd wants to hear from a service, and the sockets it may pass to one; without systemd nothing happens.

The protocols are sd_notify(3) and sd_listen_fds(3).
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from relay.socket_path import address_of

SEND_S: Final = 5.0
EXTEND_S: Final = 30.0
"""Seconds that a stop may take from each sign of life on."""
FIRST_FD: Final = 3
log = structlog.stdlib.get_logger()


class Notify:
    """Tells the service manager how the daemon is."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._stopping = False
        self.watchdog = _watchdog(environ)
        """Seconds after which the service manager ends a service that has not said it is alive; None: never."""

    @property
    def listens(self) -> bool:
        """Whether there is a service manager that wants to know."""
        return bool(self._address)

    async def ready(self, status: str) -> None:
        """The start is done, or a reload is, well or not."""
        await self._tell("READY=1", f"STATUS={status}")

    async def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        await self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    async def stopping(self) -> None:
        """The stop begins. From now on every sign of life asks for more time."""
        self._stopping = True
        await self._tell("STOPPING=1", "STATUS=stopping: finishing the deliveries under way", *self._extension())

    async def alive(self, status: str) -> None:
        """All that should make progress does."""
        await self._tell("WATCHDOG=1", f"STATUS={status}", *self._extension())

    async def turns(self) -> None:
        """The event loop turns, whatever else does not: for the supervisor of several workers."""
        await self._tell("X_LOOP=1")

    async def stuck(self, status: str) -> None:
        """Something does not make progress: no sign of life."""
        await self._tell(f"STATUS={status}")

    def _extension(self) -> list[str]:
        return [f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}"] if self._stopping else []

    async def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            async with asyncio.timeout(SEND_S):
                await self._send("\n".join(" ".join(line.split()) for line in lines).encode())
        except OSError as error:  # a TimeoutError too
            log.warning("systemd cannot be told", socket=self._address, error=str(error) or "it does not read")

    async def _send(self, message: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            if self._address.startswith("@"):
                out.connect("\0" + self._address[1:])
            else:
                with address_of(Path(self._address)) as address:
                    out.connect(address)
            await asyncio.get_running_loop().sock_sendall(out, message)


def _watchdog(environ: Mapping[str, str]) -> float | None:
    ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    given = environ.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if ours and given.isdecimal() and int(given) else None


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that were passed to this process; at the second call there are none.

    Raises ValueError if what was passed is something else.
    """
    meant_for, number = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    count = int(number) if meant_for == str(os.getpid()) else 0
    return [_adopt(fd) for fd in range(FIRST_FD, FIRST_FD + count)]


def _adopt(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise ValueError(f"file descriptor {fd} is no socket: {error.strerror}") from None
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"file descriptor {fd} is no listening stream socket: it takes ListenStream= and Accept=no")
    return listener
