"""Notifies systemd, and takes the sockets that it passes. Does nothing without systemd.

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
"""Seconds by which each sign of life extends a stop."""
FIRST_FD: Final = 3
log = structlog.stdlib.get_logger()


class Notify:
    """Notifies the service manager."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._stopping = False
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        given = environ.get("WATCHDOG_USEC", "")
        self.watchdog = int(given) / 1e6 if ours and given.isdecimal() and int(given) else None
        """Seconds after which the service manager ends a silent service; None: never."""

    @property
    def listens(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    async def report_ready(self, status: str) -> None:
        """Report the end of a start or of a reload, successful or not."""
        await self._send_state("READY=1", f"STATUS={status}")

    async def report_reloading(self) -> None:
        """Report the beginning of a reload; `report_ready` ends it."""
        await self._send_state("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    async def report_stopping(self, what: str = "finishing the deliveries under way") -> None:
        """Report the beginning of the stop. Every later sign of life asks for more time."""
        self._stopping = True
        await self._send_state("STOPPING=1", f"STATUS=stopping: {what}", *self._make_extension())

    async def report_alive(self, status: str) -> None:
        """Report that everything makes progress."""
        await self._send_state("WATCHDOG=1", f"STATUS={status}", *self._make_extension())

    async def report_turning(self) -> None:
        """Report that the event loop turns, to the supervisor of several workers."""
        await self._send_state("X_LOOP=1")

    async def report_stuck(self, status: str) -> None:
        """Report what makes no progress, without a sign of life."""
        await self._send_state(f"STATUS={status}")

    def _make_extension(self) -> list[str]:
        return [f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}"] if self._stopping else []

    async def _send_state(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(" ".join(line.split()) for line in lines).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                if self._address.startswith("@"):
                    out.connect("\0" + self._address[1:])
                else:
                    with address_of(Path(self._address)) as address:
                        out.connect(address)
                async with asyncio.timeout(SEND_S):
                    await asyncio.get_running_loop().sock_sendall(out, message)
        except OSError as error:  # a TimeoutError too
            log.warning("systemd cannot be notified", socket=self._address, error=str(error) or "it does not read")


def take_inherited_sockets() -> list[socket.socket]:
    """Return the listening sockets passed to this process; a second call returns none.

    Raises ValueError for anything but listening sockets.
    """
    meant_for, number = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    count = int(number) if meant_for == str(os.getpid()) else 0
    listeners: list[socket.socket] = []
    for fd in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(fd, False)
        try:
            one = socket.socket(fileno=fd)
        except OSError as error:
            raise ValueError(f"file descriptor {fd} is no socket: {error.strerror}") from None
        if one.type != socket.SOCK_STREAM or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            rule = "it takes ListenStream= and Accept=no"
            raise ValueError(f"file descriptor {fd} is no listening stream socket: {rule}")
        listeners.append(one)
    return listeners
